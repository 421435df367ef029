// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// New FATs without files, judged by fsck.fat and mtools.
@Suite(.enabled(if: Tool.have("mcopy", "mdir", "fsck.fat"), "needs dosfstools and mtools"))
struct EmptyFATTests {
    @Test(arguments: [34, 40, 100, 260, 512] as [UInt64], [512, 4096])
    func itIsValidAndTakesFiles(mebibytes: UInt64, sectorSize: Int) throws {
        let comment: Comment = "\(mebibytes) MiB, sectors of \(sectorSize)"
        let bench = try Workbench()
        let image = try bench.sparseFile("esp", byteCount: mebibytes << 20)
        let disk = try BlockDevice(opening: image, .exclusiveWrite, sectorSize: sectorSize)
        // An older life of the place.
        for offset in stride(from: 0 as UInt64, to: 4 << 20, by: 1 << 20) {
            try disk.writeBytes([UInt8](repeating: 0xA5, count: 1 << 20), at: offset)
        }
        let fat = try #require(
            EmptyFAT(
                volumeByteCount: mebibytes << 20, sectorSize: sectorSize, serialNumber: 0x5EED_0102,
                hiddenSectors: 2048), comment)
        // FAT32 wherever the volume has enough clusters for it.
        #expect((fat.layout.kind == .fat32) == (sectorSize == 512 || mebibytes >= 260), comment)
        try fat.run { bytes, offset in
            try disk.writeBytes(bytes, at: offset)
        } zero: {
            try disk.writeZeros($0)
        }
        try disk.flush()
        #expect(try FATVolume(disk).entries(in: "/").isEmpty, comment)
        try Tool.run(["fsck.fat", "-n", image.string])
        let file = bench.path("file")
        let content = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 11) }
        try Files.write(content, to: file)
        try Tool.run(["mmd", "-i", image.string, "::/EFI"])
        try Tool.run(["mcopy", "-i", image.string, file.string, "::/EFI/BOOTX64.EFI"])
        try Tool.run(["fsck.fat", "-n", image.string])
        try disk.dropCache()
        #expect(try FATVolume(disk).readFile("/EFI/BOOTX64.EFI", limit: 4 << 20) == content, comment)
    }

    @Test func tooSmallIsNil() {
        #expect(EmptyFAT(volumeByteCount: 4096, sectorSize: 512, serialNumber: 1, hiddenSectors: 0) == nil)
        #expect(EmptyFAT(volumeByteCount: 64 << 20, sectorSize: 513, serialNumber: 1, hiddenSectors: 0) == nil)
    }
}
