// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// The log of a restored XFS.
@Suite(.enabled(if: Tool.have("mkfs.xfs", "xfs_db", "xfs_logprint", "xfs_repair"), "needs xfsprogs"))
struct XFSRestoredLogTests {
    /// Stripe units, sectors and block sizes: they determine the length of records, their number of headers,
    /// and the end of the last one.
    static let options: [[String]] = [
        [], ["-l", "su=32k"], ["-l", "su=256k"], ["-s", "size=4096"], ["-b", "size=1024", "-l", "su=7k"],
        ["-b", "size=1024", "-l", "su=65k"], ["-m", "rmapbt=1", "-l", "size=66m,su=96k"],
    ]

    /// Byte for byte the result of xfs_db.
    @Test(arguments: options) func theLogIsWhatXfsDbWrites(options: [String]) throws {
        let bench = try Workbench()
        let image = try bench.makeXFS("image", byteCount: 320 << 20, ["-f"] + options)
        let device = try BlockDevice(opening: image, .exclusiveWrite)
        let log = try #require(try XFSRestoredLog(device))
        #expect(log.cycle == 1)
        #expect(XFSRestoredLog.cycle(on: device) == 1)
        let theirs = bench.folder.appending("theirs")
        try Tool.run(["cp", "--sparse=always", image.string, theirs.string])
        // Its exit status is meaningless.
        try Tool.run(["xfs_db", "-x", "-c", "logformat -c 218000000", theirs.string])
        try log.format(cycle: 218_000_000) { bytes, offset in try device.writeBytes(bytes, at: offset) }
        try device.flush()
        #expect(try XFSRestoredLog.isClean(device, cycle: 218_000_000))
        #expect(try !XFSRestoredLog.isClean(device, cycle: 218_000_001))
        #expect(XFSRestoredLog.cycle(on: device) == 218_000_000)
        let count = Int(log.range.byteCount)
        let (own, expected) = (
            try device.readBytes(at: log.range.lowerBound, count: count),
            try BlockDevice(opening: theirs).readBytes(at: log.range.lowerBound, count: count)
        )
        #expect(own.indices.first { own[$0] != expected[$0] } == nil)
        try Tool.run(["xfs_repair", "-n", image.string])
        #expect(try VolumeIdentifier.survey(device).0.mapSource == .allocationStructures)
    }

    @Test func whatIsNoCleanVersion5IsLeftAlone() throws {
        let old = MemoryDisk(try XFSFixture.version4.get())
        #expect(try XFSRestoredLog(old) == nil)
        #expect(try XFSRestoredLog.isVersion4(old))
        #expect(XFSRestoredLog.cycle(on: old) == 1)
        let bytes = try XFSFixture.version5.get()
        #expect(try XFSRestoredLog(MemoryDisk(bytes)) != nil)
        #expect(try !XFSRestoredLog.isVersion4(MemoryDisk(bytes)))
        let empty = MemoryDisk(byteCount: 1 << 20)
        #expect(try XFSRestoredLog(empty) == nil && XFSRestoredLog.cycle(on: empty) == nil)
        // A log with pending changes, and impossible stripe units.
        var dirty = bytes
        let log = try XFSFixture.places(bytes).log
        dirty[log.lowerBound + 512 + 9] = 0
        #expect(try XFSRestoredLog(MemoryDisk(dirty)) == nil)
        for unit: UInt32 in [513, 2, 257 << 10, .max, 1 << 31] {
            var odd = bytes
            odd.replaceSubrange(196..<200, with: (0..<4).map { UInt8(truncatingIfNeeded: unit >> (24 - 8 * $0)) })
            XFSFixture.mend(&odd, at: 0, count: 512, field: XFSChecksum.superblockOffset)
            #expect(try XFSRestoredLog(MemoryDisk(odd)) == nil, "\(unit)")
        }
    }
}
