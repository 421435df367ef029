// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A volume joined from parts of another reader.
struct SegmentedReader: BlockReader {
    private let base: any BlockReader
    private let segments: [VolumeSegment]
    let byteCount: UInt64
    let name: String
    var logicalSectorSize: Int { base.logicalSectorSize }

    /// The volume that `segments` form; they must join without a gap from byte 0 on and be
    /// inside `base`; otherwise `nil`.
    init?(_ base: any BlockReader, name: String, segments: [VolumeSegment]) {
        var end: UInt64 = 0
        for segment in segments {
            guard segment.start == end, !segment.place.isEmpty, (0..<base.byteCount).covers(segment.place) else {
                return nil
            }
            let (next, overflow) = end.addingReportingOverflow(segment.place.byteCount)
            guard !overflow else { return nil }
            end = next
        }
        self.base = base
        self.name = name
        self.segments = segments
        byteCount = end
    }

    /// Fills all of `buffer` from `offset` of the volume on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = UInt64(buffer.count)
        guard count <= byteCount, offset <= byteCount - count else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: count, errorNumber: 0,
                reason: "that is past the end of the volume")
        }
        var done = 0
        var index = segments.firstIndex(endingAfter: offset)
        while done < buffer.count, index < segments.count {
            let segment = segments[index]
            let position = offset + UInt64(done)
            let part = Int(min(segment.end - position, UInt64(buffer.count - done)))
            let place = segment.place.lowerBound + (position - segment.start)
            unsafe try base.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + part]), at: place)
            done += part
            index += 1
        }
    }
}

extension [VolumeSegment] {
    /// The index of the first segment that ends after byte `offset` of the volume.
    func firstIndex(endingAfter offset: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if self[middle].end > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Calls `body` with the places in the container of the ascending `ranges` of the volume.
    func forEachPlace(of ranges: [ByteRange], _ body: (ByteRange) -> Void) {
        var index = 0
        for range in ranges {
            while index < count, self[index].end <= range.lowerBound { index += 1 }
            var next = index
            while next < count, self[next].start < range.upperBound {
                let segment = self[next]
                let part = range.clamped(to: segment.start..<segment.end)
                let start = segment.place.lowerBound + (part.lowerBound - segment.start)
                body(start..<start + part.byteCount)
                next += 1
            }
        }
    }
}
