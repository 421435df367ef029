// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The contents of a disk's chunks as a capture stores them: patched, with zeros for unused bytes.
struct PlannedChunks {
    private let source: any BlockReader
    private let patches: [UInt64: [UInt8]]

    init(_ plan: CapturePlan, of source: any BlockReader) {
        self.source = source
        patches = plan.patches
    }

    /// Reads the ranges in use (ascending, relative to the chunk's start) of the chunk at `offset` and masks the rest.
    ///
    /// Ranges with small gaps are read in one call. If that call fails, each of them is read alone.
    func read(_ used: [Range<Int>], at offset: UInt64, into content: UnsafeMutableRawBufferPointer) throws(BlockIOError)
    {
        let nearby = 128 << 10
        var index = 0
        while index < used.count {
            var end = index
            // A rescue records unreadable ranges, so it must read used bytes only.
            while !(source is RescueReader), end + 1 < used.count,
                used[end + 1].lowerBound - used[end].upperBound <= nearby
            { end += 1 }
            let span = used[index].lowerBound..<used[end].upperBound
            do {
                try source.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: content[span]),
                    at: offset + UInt64(span.lowerBound))
            } catch {
                if index == end { throw error }
                for range in used[index...end] {
                    try source.read(
                        into: UnsafeMutableRawBufferPointer(rebasing: content[range]),
                        at: offset + UInt64(range.lowerBound))
                }
            }
            index = end + 1
        }
        patch(content, at: offset)
        ChunkMask.zeroUnused(content, used: used)
    }

    /// Applies the patches; one may span several chunks.
    private func patch(_ content: UnsafeMutableRawBufferPointer, at offset: UInt64) {
        let chunk = offset..<offset + UInt64(content.count)
        for (place, bytes) in patches {
            let part = (place..<place + UInt64(bytes.count)).clamped(to: chunk)
            guard !part.isEmpty else { continue }
            let from = Int(part.lowerBound - place)
            UnsafeMutableRawBufferPointer(
                rebasing: content[Int(part.lowerBound - offset)..<Int(part.upperBound - offset)]
            ).copyBytes(from: bytes[from..<from + Int(part.byteCount)])
        }
    }
}

/// Unused bytes of a chunk count as zero, both in its hash and in its stored content.
enum ChunkMask {
    /// Zeros everything outside `used` (ascending).
    static func zeroUnused(_ content: UnsafeMutableRawBufferPointer, used: [Range<Int>]) {
        var position = 0
        for range in used + [content.count..<content.count] {
            if position < range.lowerBound {
                UnsafeMutableRawBufferPointer(rebasing: content[position..<range.lowerBound]).initializeMemory(
                    as: UInt8.self, repeating: 0)
            }
            position = range.upperBound
        }
    }
}
