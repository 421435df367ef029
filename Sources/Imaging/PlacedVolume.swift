// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A volume of a region on a target, joined from its pieces.
struct PlacedVolume: BlockReader {
    /// The target, or a region as it will be after the commit.
    let base: any BlockReader
    /// The addresses of its pieces, in the order of the volume.
    let pieces: [ByteRange]
    let byteCount: UInt64
    var logicalSectorSize: Int { base.logicalSectorSize }
    var name: String { base.name }

    /// - Parameters:
    ///   - start: the region's start, in bytes of `base`.
    ///   - pieces: the volume's pieces, in bytes of the region.
    init?(_ base: any BlockReader, start: UInt64, pieces: [ByteRange]) {
        var length: UInt64 = 0
        var shifted: [ByteRange] = []
        for piece in pieces {
            let (sum, overflow) = length.addingReportingOverflow(piece.byteCount)
            guard !overflow, let place = piece.shifted(up: start) else { return nil }
            length = sum
            shifted.append(place)
        }
        self.base = base
        self.pieces = shifted
        byteCount = length
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        for part in try parts(.read, offset, buffer.count) {
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: buffer[part.start..<part.start + Int(part.place.byteCount)])
            try base.read(into: piece, at: part.place.lowerBound)
        }
    }

    /// Writes all of `bytes` at `offset` of the volume.
    func write(_ bytes: [UInt8], at offset: UInt64, to region: PlacedRegion) throws(BlockIOError) {
        for part in try parts(.write, offset, bytes.count) {
            let result = bytes.withUnsafeBytes { buffer in
                Result { () throws(BlockIOError) in
                    try region.write(
                        UnsafeRawBufferPointer(rebasing: buffer[part.start..<part.start + Int(part.place.byteCount)]),
                        at: part.place.lowerBound)
                }
            }
            try result.get()
        }
    }

    private func parts(
        _ operation: BlockIOError.Operation, _ offset: UInt64, _ count: Int
    ) throws(BlockIOError) -> [(place: ByteRange, start: Int)] {
        guard UInt64(count) <= byteCount, offset <= byteCount - UInt64(count) else {
            throw BlockIOError(
                operation, name: name, offset: offset, byteCount: UInt64(count), errorNumber: 0,
                reason: "that is past the end of the volume")
        }
        let wanted = offset..<offset + UInt64(count)
        var parts: [(place: ByteRange, start: Int)] = []
        var position: UInt64 = 0
        for piece in pieces where position < wanted.upperBound {
            let part = wanted.clamped(to: position..<position + piece.byteCount)
            if !part.isEmpty {
                let start = piece.lowerBound + (part.lowerBound - position)
                parts.append((start..<start + part.byteCount, Int(part.lowerBound - offset)))
            }
            position += piece.byteCount
        }
        return parts
    }
}
