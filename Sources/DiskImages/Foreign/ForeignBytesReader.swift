// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A disk of which only some bytes are known, with zeros for all others: so that tables that were made are read like
/// those of any disk.
struct ForeignBytesReader: BlockReader {
    let pieces: [ForeignBytes]
    let byteCount: UInt64
    let logicalSectorSize: Int
    let name: String

    init(_ pieces: [ForeignBytes], byteCount: UInt64, logicalSectorSize: Int, name: String) {
        self.pieces = pieces
        self.byteCount = byteCount
        self.logicalSectorSize = logicalSectorSize
        self.name = name
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = try checkedRange(at: offset, count: UInt64(buffer.count))
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        for piece in pieces {
            guard let place = ByteRange(offset: piece.offset, byteCount: UInt64(piece.bytes.count)) else { continue }
            let part = range.clamped(to: place)
            guard !part.isEmpty else { continue }
            let first = Int(part.lowerBound - place.lowerBound)
            let target = Int(part.lowerBound - offset)
            unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[target..<target + Int(part.byteCount)])
                .copyBytes(from: piece.bytes[first..<first + Int(part.byteCount)])
        }
    }
}
