// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageModel

/// Damaged streams that are read into a scratch file.
@Suite struct ForeignScratchTests {
    private static func spooled(
        _ image: [UInt8], salvages: Bool, in scratch: ScratchFolder
    ) throws -> ForeignDiskFile {
        let path = scratch.path.appending("image")
        try Files.write(image, to: path)
        let format = PartcloneFile.format
        let disk = try format.open(path, try format.disks(path)[0])
        let contents = try ForeignContents(disk, Cancellation(), salvages: salvages)
        return try #require(
            try ForeignDiskFile(
                contents, unreadable: contents.unreadable, salvages: salvages, in: scratch.path, memoryReserve: 0,
                progress: { _ in }))
    }

    /// Blocks with a checksum of each three, one of them flipped in the middle.
    private static func damaged(_ sample: PartcloneSample) -> [UInt8] {
        var image = sample.image
        image[image.count / 2] ^= 1
        return image
    }

    @Test func theBlocksBeforeDamageAreKept() throws {
        let sample = PartcloneSample.random
        let image = Self.damaged(sample)
        let scratch = try ScratchFolder()
        #expect(throws: ImageError.self) { try Self.spooled(image, salvages: false, in: scratch) }
        let other = try ScratchFolder()
        let disk = try Self.spooled(image, salvages: true, in: other)
        try #require(disk.damaged.count == 1 && disk.damaged[0].ranges.count == 1)
        let lost = disk.damaged[0].ranges[0]
        #expect(disk.damaged[0].reason.contains("checksum"))
        #expect(disk.unreadable.ranges == [lost])
        #expect(lost.lowerBound > disk.byteCount / 4 && lost.lowerBound < disk.byteCount * 3 / 4)
        #expect(try disk.readBytes(at: 0, count: Int(lost.lowerBound)) == Array(sample.volume[..<Int(lost.lowerBound)]))
        #expect(throws: BlockIOError.self) { try disk.readBytes(at: lost.lowerBound, count: 512) }
    }

    /// A checksum over everything: which bytes are wrong is not known.
    @Test func nothingIsKeptThatOnlyTheEndProves() throws {
        var sample = PartcloneSample.random
        sample.checksum = 0xFF
        var image = sample.image
        // The first byte of the last stored block, and then its checksum (301 blocks in groups of 3).
        let stored = sample.used.filter { $0 }.count
        let end = stored % 3 == 0 ? 3 : stored % 3
        image[image.count - 4 - 512 * end] ^= 1
        let scratch = try ScratchFolder()
        let disk = try Self.spooled(image, salvages: true, in: scratch)
        let last = try #require(sample.used.lastIndex(of: true))
        let first = try #require(sample.used.firstIndex(of: true))
        #expect(disk.unreadable.ranges == [0..<UInt64(last + 1) * 512])
        #expect(throws: BlockIOError.self) { try disk.readBytes(at: UInt64(first) * 512, count: 512) }
    }
}
