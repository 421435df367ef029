// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageStore
import TestSupport
import Testing

@testable import Imaging

/// LUKS in a larger place: how long the place may be, and what is to be done later.
@Suite struct EncryptedGrowthTests {
    private func disk(_ luks: FilesystemInfo) throws -> MadeUpDisk {
        var made = try MadeUpDisk(seed: 1)
        let index = try #require(made.header.manifest.regions.firstIndex { $0.partition == 1 })
        made.header.manifest.regions[index].filesystem = luks
        return made
    }

    private func luks(
        sectorSize: Int? = 4096, byteCount: UInt64? = 3 << 20, inner: FilesystemInfo.Kind? = nil
    ) -> FilesystemInfo {
        let inside = inner.map { kind in
            FilesystemInfo.InnerVolume(
                name: "luks", byteCount: 1 << 20,
                filesystem: FilesystemInfo(kind: kind, kindName: kind.rawValue, mapSource: .allocationStructures))
        }
        return FilesystemInfo(
            kind: .luks, kindName: "crypto_LUKS", byteCount: byteCount, sectorSize: sectorSize, mapSource: .whole,
            wholeReason: "it is encrypted", inner: inside.map { [$0] })
    }

    @Test func thePlaceGrowsByWholeSectorsOfItsOwn() throws {
        let made = try disk(luks())
        // An exact size that is no multiple of 4096.
        func plan(_ wished: UInt64, _ made: MadeUpDisk) throws -> RestorePlan {
            try RestorePlanner.plan(
                made.header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: 24 << 20),
                request: LayoutRequest(policy: .keep, wishes: [1: .size(wished)]))
        }
        let grown = try plan((4 << 20) + 2560, made)
        let place = try #require(grown.placements?.first { $0.number == 1 }?.to)
        #expect(place.byteCount == 4 << 20 && grown.items.first { $0.number == 1 }?.to == place)
        #expect(grown.encryptedGrowths.map(\.range) == [place])
        // Sectors of 512 bytes end everywhere.
        let other = try plan((4 << 20) + 2560, try disk(luks(sectorSize: 512)))
        #expect(other.placements?.first { $0.number == 1 }?.to.byteCount == (4 << 20) + 2560)
        // What has no length that follows its place keeps the place, too.
        let fixed = try disk(luks(byteCount: nil)).plan(targetByteCount: 24 << 20, policy: .grow)
        #expect(fixed.placements?.first { $0.number == 1 }?.to.byteCount == 3 << 20)
        #expect(fixed.encryptedGrowths.isEmpty)
    }

    @Test func whatIsToBeDoneLater() throws {
        for (kind, command) in [
            (FilesystemInfo.Kind.ext4, "resize2fs /dev/mapper/NAME"), (.xfs, "xfs_growfs MOUNTPOINT"),
            (.lvm, "pvresize /dev/mapper/NAME"), (nil, "whatever makes larger what is inside"),
        ] as [(FilesystemInfo.Kind?, String)] {
            let plan = try disk(luks(inner: kind)).plan(targetByteCount: 24 << 20, policy: .grow)
            let notes = plan.encryptedGrowthNotes
            #expect(notes.count == 1 && notes.allSatisfy { $0.contains(command) }, "\(notes)")
        }
        #expect(
            try disk(luks(inner: .fat32)).plan(targetByteCount: 24 << 20, policy: .grow).encryptedGrowthNotes.isEmpty)
        #expect(try disk(luks()).plan(targetByteCount: 12 << 20, policy: .grow).encryptedGrowthNotes.isEmpty)
    }

    @Test func aSmallerDiskIsRefusedWithTheReason() throws {
        let made = try disk(luks())
        let error = #expect(throws: ImagingError.self) { try made.plan(targetByteCount: 5 << 20, policy: .grow) }
        #expect("\(try #require(error))".contains("LUKS is not made smaller"), "\(String(describing: error))")
    }
}
