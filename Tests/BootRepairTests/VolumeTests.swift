// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

/// T0: roots other than plain partitions: subvolumes of Btrfs and logical volumes.
struct VolumeTests {
    static func root(_ path: String, isDefault: Bool = false, named: String? = nil) -> BtrfsRoot {
        BtrfsRoot(path: path, isDefault: isDefault, named: named)
    }

    /// The subvolume named by its own fstab, despite snapshots of it.
    @Test func theRootSubvolumeIsTheOneThatNamesItself() {
        let own = Self.root("@", named: "@")
        #expect(BtrfsRoot.choose([own]) == own)
        #expect(BtrfsRoot.choose([Self.root("@-before-upgrade", named: "@"), own, Self.root("old")]) == own)
        #expect(
            BtrfsRoot.choose([Self.root("", isDefault: true, named: "@"), own]) == own, "left behind by a move to @")
    }

    @Test func theDefaultIsTheRootWhereNoneIsNamed() {
        let standard = Self.root("@/.snapshots/1/snapshot", isDefault: true)
        #expect(BtrfsRoot.choose([standard, Self.root("other")]) == standard)
        let only = Self.root("rootfs")
        #expect(BtrfsRoot.choose([only]) == only)
    }

    @Test func whatIsUnclearIsNotChosen() {
        #expect(BtrfsRoot.choose([]) == nil)
        #expect(BtrfsRoot.choose([Self.root("@a", named: "@a"), Self.root("@b", named: "@b")]) == nil)
        #expect(BtrfsRoot.choose([Self.root("a"), Self.root("b")]) == nil)
        #expect(BtrfsRoot.choose([Self.root("a", named: "@"), Self.root("b", named: "@")]) == nil, "two snapshots")
    }

    @Test(arguments: [
        ("subvol=@", "@"), ("compress=zstd,subvol=/@rootfs,noatime", "@rootfs"), ("subvol=/", ""), ("defaults", nil),
        ("subvolid=256", nil),
    ]) func subvolumeOfAnEntry(_ options: String, _ wanted: String?) {
        #expect(Fstab("UUID=1 / btrfs \(options) 0 0").entries.first?.subvolume == wanted)
        #expect(Fstab("UUID=1 / ext4 \(options) 0 0").entries.first?.subvolume == nil)
    }

    /// Parts of /boot that are subvolumes of the root's own filesystem are mounted too; the ESP is mounted separately.
    @Test func bootMountsOfSubvolumes() {
        let uuid = Fixture.rootUUID
        let system = Fixture.system(
            """
            UUID=\(uuid) / ext4 defaults 0 0
            UUID=\(uuid) /boot/grub2/i386-pc btrfs subvol=/@/boot/grub2/i386-pc 0 0
            UUID=\(uuid) /boot btrfs subvol=@boot 0 0
            UUID=\(uuid) /boot/own ext4 defaults 0 0
            UUID=\(Fixture.espUUID) /boot/efi vfat defaults 0 0

            """)
        #expect(
            system.bootMounts == [
                .init(partition: 3, path: "/boot", subvolume: "@boot"),
                .init(partition: 3, path: "/boot/grub2/i386-pc", subvolume: "@/boot/grub2/i386-pc"),
            ])
    }

    // MARK: logical volumes

    static func info(
        _ kind: FilesystemInfo.Kind, _ name: String, _ uuid: String?, inner: [(String, FilesystemInfo)]? = nil
    )
        -> FilesystemInfo
    {
        FilesystemInfo(
            kind: kind, kindName: name, uuid: uuid, mapSource: .whole,
            inner: inner?.map { .init(name: $0.0, byteCount: 1 << 30, filesystem: $0.1) })
    }

    /// A disk of one physical volume with logical volumes of these names, each with an ext4.
    static func volumes(_ names: [String]) -> [BootVolume] {
        let partition = Partition(
            number: 3, range: 1 << 20..<1 << 30, typeGUID: Fixture.guid(1), guid: Fixture.guid(3))
        let group = info(
            .lvm, "LVM2_member", nil,
            inner: names.enumerated().map { ($0.element, info(.ext4, "ext4", "5eed-\($0.offset)")) } + [
                ("vg/closed", info(.unknown, "unknown", nil))
            ])
        let volume = VolumeSurvey(
            range: partition.range, partition: partition, filesystem: group,
            allocation: AllocationMap(byteCount: partition.range.byteCount))
        let table = PartitionTable(kind: .gpt, usable: 0..<1 << 30, partitions: [partition])
        return BootVolume.all(
            of: DiskSurvey(
                identity: DiskIdentity(path: "/dev/sda"), geometry: DiskGeometry(byteCount: 1 << 30), table: table,
                volumes: [volume]))
    }

    @Test func logicalVolumesAreListedBehindThePartitions() {
        let volumes = Self.volumes(["vg0/root", "my-vg/a-b"])
        #expect(volumes.map(\.number) == [3, 4, 5])
        #expect(volumes[1].place == "logical volume vg0/root")
        #expect(volumes[1].range == volumes[0].range)
        #expect(volumes[1].logicalVolume == .init(name: "vg0/root", partition: 3))
        #expect(volumes[2].mapperPaths == ["/dev/mapper/my--vg-a--b", "/dev/my-vg/a-b"])
        #expect(volumes[0].mapperPaths.isEmpty)
    }

    /// Names from a disk become arguments and paths.
    @Test(arguments: [
        "vg", "vg/a/b", "../x", "vg/..", "-vg/a", "vg/-a", "vg/a b", "vg/", "v\u{0}g/a",
        "vg/\(String(repeating: "x", count: 200))",
    ])
    func strangeNamesAreLeftOut(_ name: String) {
        #expect(Self.volumes([name]).count == 1)
    }

    @Test func fstabAndGrubNameLogicalVolumes() {
        let volumes = Self.volumes(["vg0/root", "vg0/home", "vg0/swap"])
        let fstab = """
            /dev/mapper/vg0-root / ext4 defaults 0 1
            /dev/vg0/home /home ext4 defaults 0 2
            /dev/mapper/vg1-srv /srv ext4 defaults 0 2
            UUID=5eed-2 none swap sw 0 0

            """
        let entries = FstabResolver(volumes: volumes, rootPartition: 4).resolve(Fstab(fstab).entries)
        #expect(
            entries.map(\.resolution) == [
                .here(partition: 4), .here(partition: 5), .elsewhere, .here(partition: 6),
            ])
        func problems(_ root: String) -> [String] {
            GrubConfiguration("menuentry x {\nlinux /v root=\(root) resume=/dev/vg0/swap\n}\n")
                .problems(volumes: volumes, rootPartition: 4)
        }
        #expect(problems("/dev/mapper/vg0-root").isEmpty)
        #expect(problems("/dev/vg0/root").isEmpty)
        #expect(!problems("/dev/mapper/vg0-home").isEmpty, "not this system's root")
        #expect(GrubConfiguration("linux /v resume=/dev/vg0/swap").lostResume(volumes: volumes).isEmpty)
        #expect(GrubConfiguration("linux /v resume=/dev/vg1/swap").lostResume(volumes: volumes) == ["/dev/vg1/swap"])
    }
}
