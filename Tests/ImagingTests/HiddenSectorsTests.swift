// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

@Suite struct HiddenSectorsTests {
    /// A boot sector as mkfs.fat writes it, with 2048 hidden sectors.
    private func made(_ bits: Int) throws -> [UInt8] {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("volume")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: bits == 32 ? 64 << 20 : 16 << 20)
        let output = try ChildProcess.run(["mkfs.fat", "-F", "\(bits)", "-h", "2048", path.string])
        try #require(output.succeeded, "\(output.lastWords)")
        return try BlockDevice(opening: path).readBytes(at: 0, count: 16 << 10)
    }

    @Test(arguments: [(12, FilesystemInfo.Kind.fat12), (16, .fat16), (32, .fat32)])
    func theFieldFollowsThePartition(bits: Int, kind: FilesystemInfo.Kind) throws {
        let volume = try made(bits)
        let info = FilesystemInfo(kind: kind, kindName: "vfat", mapSource: .allocationStructures)
        let places = HiddenSectors.bootSectors(Array(volume[..<512]), info, volumeByteCount: 16 << 20)
        #expect(places == (bits == 32 ? [0, 6 * 512] : [0]))
        for place in places {
            let sector = Array(volume[Int(place)..<Int(place) + 512])
            let moved = try #require(HiddenSectors.moved(sector, from: 1 << 20, to: 3 << 20, sectorSize: 512))
            #expect(try moved.littleEndian(UInt32.self, at: 28) == 6144)
            #expect(zip(moved, sector).filter { $0 != $1 }.count <= 4)
            // A value other than the partition's start is kept.
            #expect(HiddenSectors.moved(sector, from: 2 << 20, to: 3 << 20, sectorSize: 512) == nil)
            #expect(HiddenSectors.moved(sector, from: 1 << 20, to: 1 << 50, sectorSize: 512) == nil)
        }
    }

    @Test func whatIsNoBootSectorHasNone() {
        let info = FilesystemInfo(kind: .ntfs, kindName: "ntfs", mapSource: .whole)
        #expect(HiddenSectors.bootSectors([UInt8](repeating: 0xFF, count: 512), info, volumeByteCount: 1 << 30) == [0])
        #expect(HiddenSectors.bootSectors([UInt8](repeating: 0, count: 512), info, volumeByteCount: 1 << 30) == [])
        #expect(HiddenSectors.moved([UInt8](repeating: 0, count: 512), from: 0, to: 512, sectorSize: 512) == nil)
    }
}
