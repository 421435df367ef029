// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A file with the places of its bytes on the volume: for changes of a few bytes in place, without a driver for the
/// filesystem.
package struct PlacedFile: Sendable {
    package let bytes: [UInt8]
    /// The parts of the volume that hold them, in order; together at least as long.
    private let ranges: [ByteRange]

    /// - Throws: `FilesystemError.damaged` if the ranges are too short, or share bytes.
    init(bytes: [UInt8], ranges: [ByteRange]) throws(FilesystemError) {
        let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
        guard ranges.reduce(0, { $0 + $1.byteCount }) >= UInt64(bytes.count),
            zip(sorted, sorted.dropFirst()).allSatisfy({ $0.upperBound <= $1.lowerBound })
        else { throw .damaged("the places of a file") }
        self.bytes = bytes
        self.ranges = ranges
    }

    /// The places of a part of the file, in bytes of the volume, in order; `nil` if the part is not in the file.
    package func places(of part: Range<Int>) -> [ByteRange]? {
        guard part.lowerBound >= 0, part.upperBound <= bytes.count else { return nil }
        var result: [ByteRange] = []
        var start: UInt64 = 0
        for range in ranges {
            let end = start + range.byteCount
            let low = max(start, UInt64(part.lowerBound))
            let high = min(end, UInt64(part.upperBound))
            if low < high { result.append(range.lowerBound + (low - start)..<range.lowerBound + (high - start)) }
            start = end
        }
        return result
    }
}
