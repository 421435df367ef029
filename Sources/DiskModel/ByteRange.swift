// SPDX-License-Identifier: GPL-3.0-or-later

/// A half-open range of bytes on a disk, in a volume or in an image.
package typealias ByteRange = Range<UInt64>

extension Range<UInt64> {
    /// Its length in bytes.
    package var byteCount: UInt64 { upperBound - lowerBound }

    /// From a start and a length; `nil` if the end does not fit 64 bits.
    package init?(offset: UInt64, byteCount: UInt64) {
        let (end, overflow) = offset.addingReportingOverflow(byteCount)
        guard !overflow else { return nil }
        self = offset..<end
    }

    /// Whether `other` is inside the range.
    package func covers(_ other: ByteRange) -> Bool {
        other.isEmpty || (lowerBound <= other.lowerBound && other.upperBound <= upperBound)
    }

    /// The range shifted up by `distance` bytes; `nil` if the result does not fit 64 bits.
    package func shifted(up distance: UInt64) -> ByteRange? {
        ByteRange(offset: lowerBound, byteCount: byteCount).flatMap { range in
            let (start, overflow) = range.lowerBound.addingReportingOverflow(distance)
            return overflow ? nil : ByteRange(offset: start, byteCount: byteCount)
        }
    }
}
