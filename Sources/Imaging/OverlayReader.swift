// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A disk with some ranges read from other devices: the extents of a mounted logical volume from its snapshot.
package struct OverlayReader: BlockReader {
    /// A range of the disk that is read from another device.
    package struct Overlay: Sendable {
        /// The bytes of the disk.
        package var range: ByteRange
        /// The other device.
        package var reader: any BlockReader
        /// The offset on the other device, in bytes.
        package var offset: UInt64
        package init(_ range: ByteRange, from reader: any BlockReader, at offset: UInt64) {
            self.range = range
            self.reader = reader
            self.offset = offset
        }
    }

    private let base: any BlockReader
    /// Ascending and disjoint.
    private let overlays: [Overlay]

    /// Combines `base` with `overlays` in any order; `nil` if they overlap, or lie outside the disk or their devices.
    package init?(_ base: any BlockReader, overlays: [Overlay]) {
        let sorted = overlays.filter { !$0.range.isEmpty }.sorted { $0.range.lowerBound < $1.range.lowerBound }
        var end: UInt64 = 0
        for overlay in sorted {
            guard overlay.range.lowerBound >= end, overlay.range.upperBound <= base.byteCount,
                let source = ByteRange(offset: overlay.offset, byteCount: overlay.range.byteCount),
                (0..<overlay.reader.byteCount).covers(source)
            else { return nil }
            end = overlay.range.upperBound
        }
        self.base = base
        self.overlays = sorted
    }

    /// The length of the disk in bytes.
    package var byteCount: UInt64 { base.byteCount }
    /// The unit that the disk addresses, in bytes.
    package var logicalSectorSize: Int { base.logicalSectorSize }
    /// The disk's name.
    package var name: String { base.name }

    /// Fills all of `buffer` from `offset` on, each byte from its device.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let wanted = try checkedRange(at: offset, count: UInt64(buffer.count))
        var position = wanted.lowerBound
        func read(_ reader: any BlockReader, at place: UInt64, upTo end: UInt64) throws(BlockIOError) {
            let part = Int(position - offset)..<Int(end - offset)
            try reader.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]), at: place)
            position = end
        }
        var index = firstOverlay(endingAfter: position)
        while position < wanted.upperBound {
            guard index < overlays.count, overlays[index].range.lowerBound < wanted.upperBound else {
                try read(base, at: position, upTo: wanted.upperBound)
                return
            }
            let overlay = overlays[index]
            if position < overlay.range.lowerBound { try read(base, at: position, upTo: overlay.range.lowerBound) }
            try read(
                overlay.reader, at: overlay.offset + (position - overlay.range.lowerBound),
                upTo: min(overlay.range.upperBound, wanted.upperBound))
            index += 1
        }
    }

    private func firstOverlay(endingAfter position: UInt64) -> Int {
        var low = 0
        var high = overlays.count
        while low < high {
            let middle = (low + high) / 2
            if overlays[middle].range.upperBound > position { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
