// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Volumes that are recognised and copied whole, in the layout of the test images of util-linux 2.41.
@Suite struct NamedVolumeTests {
    /// A volume of 1 MiB with the given bytes at the given offsets.
    private func volume(_ pieces: [(Int, [UInt8])]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        for (offset, piece) in pieces { bytes.replaceSubrange(offset..<offset + piece.count, with: piece) }
        return bytes
    }

    private static let bcacheMagic: [UInt8] = [
        0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81,
    ]
    private static let bcachefsMagic: [UInt8] = [
        0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF,
    ]
    private static let named: [(String, [(Int, [UInt8])])] = [
        ("bcachefs", [(4096 + 16, [0x18, 0, 0x18, 0]), (4096 + 24, bcachefsMagic)]),
        ("bcachefs", [(4096 + 16, [0x0D, 0, 0x0D, 0]), (4096 + 24, bcacheMagic)]),
        (
            "cs_fvault2",
            [
                (0, [1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0x10, 0]), (88, [0x43, 0x53, 1, 0, 0, 0]),
                (168, [16, 0, 0, 0, 2, 0, 0, 0]),
            ]
        ),
        ("swap", [(4086, Array("SWAP-SPACE".utf8))]),
        ("swap", [(1024, [0, 0, 0, 1, 0, 0, 0, 0x7F]), (8182, Array("SWAPSPACE2".utf8))]),
        ("swsuspend", [(0, [0xED, 0xC3, 0x02, 0xE9, 0x98, 0x56, 0xE5, 0x0C]), (4086, Array("SWAPSPACE2".utf8))]),
    ]

    @Test(arguments: named.indices) func itHasAName(index: Int) throws {
        let bench = try Workbench()
        let (name, pieces) = Self.named[index]
        try bench.write(volume(pieces), to: bench.path("image"))
        let (info, map) = try bench.survey("image")
        #expect(info.kindName == name && info.kind == .other && info.mapSource == .whole, "\(info)")
        #expect(info.wholeReason != nil && map == .whole(byteCount: 1 << 20))
        // Its name allows no resize.
        #expect(!info.resizeAbility.canGrow && !info.resizeAbility.canShrink)
        // And a bare disk of it is one volume, not an unsupported table.
        let disk = try BlockDevice(opening: bench.path("image"))
        let opinion = SecondOpinion(descriptor: disk.fileDescriptor.rawValue)
        #expect(try PartitionTableReader.read(disk, secondOpinion: opinion).kind == .none)
    }

    /// A floppy disk formatted by mtools: its only entry describes the volume itself, from block 0.
    @Test(.enabled(if: Tool.have("mkfs.fat"), "needs mkfs.fat")) func aFATMayNameItself() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1440 << 10)
        try Tool.run(["mkfs.fat", "-F", "12", image.string])
        let disk = try BlockDevice(opening: image, .exclusiveWrite)
        var sector = try disk.readBytes(at: 0, count: 512)
        sector.replaceSubrange(446..<510, with: [UInt8](repeating: 0, count: 64))
        sector[446] = 0x80
        sector[446 + 4] = 1
        sector.setLittleEndian(UInt32(2880), at: 446 + 12)
        try disk.writeBytes(sector, at: 0)
        let table = try PartitionTableReader.read(disk)
        #expect(table.kind == .none)
        #expect(try VolumeIdentifier.survey(disk).0.kind == .fat12)
        // Without a FAT, nothing is recognised.
        sector[11] = 1
        try disk.writeBytes(sector, at: 0)
        #expect(
            try PartitionTableReader.read(disk).unknownKindName == "MBR whose partition 1 starts at its own record")
    }
}
