// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem

/// Recreates a FAT on the target, with sectors of the target's size, from the captured one on the scratch.
struct FATRemaker {
    private let remake: RestorePlan.Remake
    private let writer: TargetWriter
    private let scratch: any BlockReader
    private let scratchOffset: UInt64
    private let cancellation: Cancellation

    /// - Parameters:
    ///   - scratchOffset: where the captured FAT starts on the scratch, in bytes.
    init(
        _ remake: RestorePlan.Remake, writer: TargetWriter, scratch: any BlockReader, scratchOffset: UInt64,
        _ cancellation: Cancellation
    ) {
        self.cancellation = cancellation
        self.remake = remake
        self.writer = writer
        self.scratch = scratch
        self.scratchOffset = scratchOffset
    }

    /// Writes the FAT, and reads everything back.
    /// - Parameter settle: flushes and drops caches, so that reads come from the medium.
    func run(settle: () throws -> Void) throws {
        let sector = writer.logicalSectorSize
        let noRoom = ImagingError.failed("there is no room for the FAT of partition \(remake.number)")
        guard let range = ByteRange(offset: scratchOffset, byteCount: remake.fromByteCount),
            let old = BlockSlice(scratch, range: range), let new = BlockSlice(writer, range: remake.range)
        else { throw noRoom }
        let volume = try FATVolume(old)
        let layout = FATLayout(
            volumeByteCount: remake.range.byteCount, sectorSize: sector, preferring: remake.filesystem.kind,
            rootByteCount: try FATRemake.rootByteCount(of: volume))
        guard let layout else { throw noRoom }
        // As in HiddenSectors; 0 if the field cannot hold the number.
        let hidden = UInt32(exactly: remake.range.lowerBound / UInt64(sector)) ?? 0
        let maker = try FATRemake(of: volume, layout: layout, hiddenSectors: hidden)
        try maker.run { bytes, offset in
            try cancellation.check()
            try bytes.withUnsafeBytes { try writer.write($0, at: remake.range.lowerBound + offset) }
        } zero: { range in
            try writer.writeZeros(
                remake.range.lowerBound + range.lowerBound..<remake.range.lowerBound + range.upperBound)
        }
        try settle()
        guard try maker.isThere(try FATVolume(new)) else {
            throw ImagingError.failed(
                "the new FAT of partition \(remake.number) does not hold the written bytes: the disk is failing, or smaller than it reports"
            )
        }
    }
}
