// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

/// Volumes inside of LUKS and of RAID 1: their places, and references to them. What opens them is tested in a guest
/// (Tests/Machines/test_boot_layers.py), as the build machine has neither device-mapper nor md.
struct ContainerTests {
    private static func info(
        _ kind: FilesystemInfo.Kind, _ name: String, _ uuid: String? = nil,
        inner: [(String, FilesystemInfo, ByteRange)]? = nil
    ) -> FilesystemInfo {
        FilesystemInfo(
            kind: kind, kindName: name, uuid: uuid, mapSource: .allocationStructures,
            inner: inner?.map { name, filesystem, place in
                FilesystemInfo.InnerVolume(
                    name: name, byteCount: UInt64(place.count), filesystem: filesystem, places: [place])
            })
    }

    private static func survey(_ contents: [FilesystemInfo]) -> DiskSurvey {
        let mebibyte = Fixture.mebibyte
        let partitions = contents.indices.map { index in
            Partition(
                number: index + 1, range: UInt64(index + 1) * 100 * mebibyte..<UInt64(index + 2) * 100 * mebibyte,
                typeGUID: .zero, guid: Fixture.guid(index + 1))
        }
        return DiskSurvey(
            identity: DiskIdentity(path: "/dev/sda"),
            geometry: DiskGeometry(byteCount: 1000 * mebibyte, logicalSectorSize: 512),
            table: PartitionTable(kind: .gpt, usable: 0..<1000 * mebibyte, partitions: partitions),
            volumes: zip(partitions, contents).map { partition, info in
                VolumeSurvey(
                    range: partition.range, partition: partition, filesystem: info,
                    allocation: .whole(byteCount: UInt64(partition.range.count)))
            }, boot: BootSurvey(), warnings: [])
    }

    @Test func volumesInsideAreFound() throws {
        let place: ByteRange = 1 << 20..<50 << 20
        let root = Self.info(.ext4, "ext4", "root-uuid")
        let group = Self.info(
            .lvm, "LVM2_member", "pv",
            inner: [("vg0/root", root, place), ("vg0/x", Self.info(.unknown, "unknown"), place)])
        let mirror = Self.info(
            .raid, "linux_raid_member", "md-uuid", inner: [("array", Self.info(.ext4, "ext4", "boot-uuid"), place)])
        let volumes = BootVolume.all(
            of: Self.survey([
                Self.info(.luks, "crypto_LUKS", "luks-uuid", inner: [("luks", group, place)]), mirror, mirror,
                Self.info(.luks, "crypto_LUKS", "other", inner: [("luks", root, place)]),
                Self.info(.luks, "crypto_LUKS", "closed"),
            ]))
        #expect(volumes.map(\.number) == Array(1...8))
        let inner = volumes.suffix(3)
        #expect(inner.map(\.uuid) == ["root-uuid", "boot-uuid", "root-uuid"])
        #expect(inner.map(\.partitionNumber) == [1, 2, 4] && inner.allSatisfy { !$0.isPartition })
        #expect(inner.map(\.place) == ["logical volume vg0/root", "the array on partition 2", "LUKS on partition 4"])
        #expect(
            inner.map { $0.inside?.containers } == [
                [.luks(uuid: "luks-uuid")], [.mirror(uuid: "md-uuid", contents: place, members: [2, 3])],
                [.luks(uuid: "other")],
            ])
        #expect(inner.map { $0.mayBeNamed("/dev/mapper/x") } == [false, false, true])
        #expect(inner.map { $0.mayBeNamed("/dev/md0") } == [false, true, false])
        #expect(volumes.map(\.isPartition) == [true, true, true, true, true, false, false, false])
    }

    /// The content of LUKS is mapped by a name of crypttab's, which no restore changes.
    @Test func mappedNames() {
        var volumes = Fixture.volumes
        volumes[2].inside = BootVolume.Inside(partition: 3, containers: [.luks(uuid: "x")])
        #expect(BootReference("/dev/mapper/any").names(volumes[2]))
        let resolver = FstabResolver(volumes: volumes, rootPartition: 3)
        let entries = resolver.resolve(
            Fstab("/dev/mapper/root_crypt / ext4 defaults 0 1\n/dev/mapper/x /home ext4 defaults 0 1\n").entries)
        #expect(entries.map(\.resolution) == [.here(partition: 3), .elsewhere])
        // Its partition's number is not that of a partition name.
        #expect(resolver.resolve(Fstab("/dev/sda3 / ext4 defaults 0 1\n").entries).map(\.resolution) == [.elsewhere])
    }
}
