// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import ImageStore
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// The log of a restored XFS, wherever it lies.
@Suite(.enabled(if: ChildProcess.canFind("mkfs.xfs"), "needs xfsprogs")) struct OlderXFSLifeTests {
    private static let byteCount = 40 << 20
    private static let bytes = Result { () throws -> [UInt8] in
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("xfs")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: UInt64(byteCount))
        let output = try ChildProcess.run(
            ["mkfs.xfs", "--unsupported", "-q", "-l", "size=6m", "-d", "agcount=2", path.string])
        guard output.succeeded else { throw MadeUpError(text: output.lastWords) }
        return try BlockDevice(opening: path).readBytes(at: 0, count: byteCount)
    }

    private static var now: UInt32 { UInt32(clamping: SystemFacts.unixSeconds() - 1_577_836_800) }

    /// The same filesystem with its log in another cycle.
    private static func bytes(inCycle cycle: UInt32) throws -> [UInt8] {
        let disk = MemoryDisk(try bytes.get())
        let log = try #require(try XFSRestoredLog(disk))
        try log.format(cycle: cycle) { bytes, offset in try disk.writeBytes(bytes, at: offset) }
        return disk.bytes
    }

    /// A disk without a table that is all one volume, which holds the XFS in these pieces.
    private static func disk(
        _ kind: FilesystemInfo.Kind, _ places: [ByteRange]
    ) throws -> (made: MadeUpDisk, used: AllocationMap) {
        let filesystem = try bytes.get()
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(filesystem))
        #expect(info.kind == .xfs && info.mapSource == .allocationStructures)
        let length = Int(places.map(\.upperBound).max() ?? 0)
        var disk = [UInt8](repeating: 0, count: length)
        var used = AllocationMap(byteCount: UInt64(length))
        var position: UInt64 = 0
        for place in places {
            let part = position..<position + place.byteCount
            disk.replaceSubrange(
                Int(place.lowerBound)..<Int(place.upperBound),
                with: filesystem[Int(part.lowerBound)..<Int(part.upperBound)])
            for range in map.ranges(in: part) {
                let start = place.lowerBound + range.lowerBound - position
                used.insert(start..<start + range.byteCount)
            }
            position += place.byteCount
        }
        var volume = info
        if kind != .xfs {
            volume = FilesystemInfo(kind: kind, kindName: kind.rawValue, mapSource: .allocationStructures)
            volume.inner = [.init(name: "vg/xfs", byteCount: UInt64(byteCount), filesystem: info, places: places)]
        }
        let table = try PartitionTableReader.read(MemoryDisk(disk))
        #expect(table.kind == .none)
        return (
            try MadeUpDisk(
                disk, table,
                [VolumeSurvey(range: 0..<UInt64(length), partition: nil, filesystem: volume, allocation: used)]), used
        )
    }

    private static func restored(_ made: MadeUpDisk, over older: [UInt8]) throws -> MemoryDisk {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        _ = try made.capture(to: image)
        let target = MemoryDisk(older)
        let plan = try made.plan(targetByteCount: older.count)
        _ = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        return target
    }

    private static func pattern(_ bytes: [UInt8], _ map: AllocationMap, _ byte: UInt8 = 0xA5) -> [UInt8] {
        var bytes = bytes
        for range in map.complement.ranges {
            bytes.replaceSubrange(
                Int(range.lowerBound)..<Int(range.upperBound), with: repeatElement(byte, count: Int(range.byteCount)))
        }
        return bytes
    }

    /// On a bare disk the superblock is held back until the commit. What is not in use is left alone.
    @Test func theLogIsNewerThanTheClock() throws {
        let (made, used) = try Self.disk(.xfs, [0..<UInt64(Self.byteCount)])
        let older = Self.pattern(try Self.bytes(inCycle: 500), used)
        let before = Self.now
        let target = try Self.restored(made, over: older)
        let log = try #require(try XFSRestoredLog(target))
        #expect((before...Self.now).contains(log.cycle))
        var (bytes, expected) = (target.bytes, Self.pattern(try Self.bytes.get(), used))
        // All but the log, and the last MiB: a superblock of md could lie there.
        for range in [log.range, UInt64(Self.byteCount - 1 << 20)..<UInt64(Self.byteCount)] {
            let zeros = [UInt8](repeating: 0, count: Int(range.byteCount))
            bytes.replaceSubrange(Int(range.lowerBound)..<Int(range.upperBound), with: zeros)
            expected.replaceSubrange(Int(range.lowerBound)..<Int(range.upperBound), with: zeros)
        }
        #expect(bytes == expected)
    }

    @Test func theLogIsNewerThanTheTargets() throws {
        let (made, used) = try Self.disk(.xfs, [0..<UInt64(Self.byteCount)])
        let older = Self.pattern(try Self.bytes(inCycle: 900_000_000), used)
        #expect(try XFSRestoredLog(try Self.restored(made, over: older))?.cycle == 900_000_001)
        // There is no newer one: what is unused is cleared.
        let last = Self.pattern(try Self.bytes(inCycle: XFSRestoredLog.cycleLimit), used)
        let target = try Self.restored(made, over: last)
        #expect(try XFSRestoredLog(target)?.cycle == 1)
        #expect(target.bytes == Self.cleared(try Self.bytes.get(), used))
    }

    private static func cleared(_ bytes: [UInt8], _ map: AllocationMap) -> [UInt8] {
        pattern(bytes, map, 0)
    }

    /// In a logical volume of two pieces, the second one first.
    @Test func theLogInsideOfAVolumeGroupIsNewer() throws {
        let half = UInt64(Self.byteCount) / 2
        let places = [half + (2 << 20)..<UInt64(Self.byteCount) + (2 << 20), 1 << 20..<half + (1 << 20)] as [ByteRange]
        let (made, used) = try Self.disk(.lvm, places)
        let older = Self.pattern([UInt8](repeating: 0, count: made.bytes.count), used)
        let before = Self.now
        let target = try Self.restored(made, over: older)
        let volume = try #require(PlacedVolume(target, start: 0, pieces: places))
        #expect((before...Self.now).contains(try #require(try XFSRestoredLog(volume)).cycle))
    }

    /// The mirrors of an array must stay the same, and are restored one at a time.
    @Test func theLogInsideOfAnArrayStays() throws {
        let (made, used) = try Self.disk(.raid, [1 << 20..<UInt64(Self.byteCount) + (1 << 20)])
        let older = Self.pattern([UInt8](repeating: 0, count: made.bytes.count), used)
        let target = try Self.restored(made, over: older)
        #expect(target.bytes == Self.cleared(made.bytes, used))
    }

    /// A clock that stands before the capture says nothing of what came after it.
    @Test func aDeadClockIsNotBelieved() throws {
        let (made, used) = try Self.disk(.xfs, [0..<UInt64(Self.byteCount)])
        for (seconds, isBelieved) in [(0, false), (1_735_689_600, false), (1_800_000_000, true)] as [(Int64, Bool)] {
            let target = MemoryDisk(Self.pattern(try Self.bytes.get(), used))
            let writer = TargetWriter(target, tailStart: target.byteCount)
            try writer.write(target.bytes)
            let cure = OlderLifeCure(
                made.header, try made.plan(targetByteCount: Self.byteCount), writer, Progress())
            var (changes, warnings) = (TargetChanges(), [String]())
            try cure.run(unixSeconds: seconds, checksFirst: true, &changes, &warnings)
            #expect(warnings.isEmpty == isBelieved, "\(warnings)")
            let unused = try #require(used.complement.ranges.first { $0.lowerBound > 2 << 20 })
            #expect(target.bytes[Int(unused.lowerBound)] == (isBelieved ? 0xA5 : 0))
            let volume = try #require(BlockSlice(writer, range: 0..<target.byteCount))
            let cycle = try #require(try XFSRestoredLog(volume)).cycle
            #expect(cycle == max(2, UInt32(clamping: seconds - 1_577_836_800)))
        }
    }
}

extension TargetWriter {
    /// Writes all of the target.
    fileprivate func write(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try write($0, at: 0) }
    }
}
