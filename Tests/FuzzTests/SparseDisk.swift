// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A disk of zeros with some bytes on it, as a small file: the bytes that a parser read when it failed. It needs
/// neither the tool nor its version that made the valid disk.
///
/// The file: `RFSPARSE`, length (8 bytes), sector size (4), then for each part its place (8), its length (4), its
/// bytes. All numbers are little-endian.
struct SparseDisk: BlockReader {
    var byteCount: UInt64
    var logicalSectorSize: Int
    let name = "sparse"
    /// Ascending, disjoint.
    private(set) var parts: [(offset: UInt64, bytes: [UInt8])] = []

    private static let mark = Array("RFSPARSE".utf8)
    /// Zeros are omitted in steps of this many bytes.
    private static let grain: UInt64 = 64

    init(byteCount: UInt64, logicalSectorSize: Int) {
        self.byteCount = byteCount
        self.logicalSectorSize = logicalSectorSize
    }

    /// The bytes of another reader in `ranges`.
    init(_ reader: any BlockReader, ranges: AllocationMap) throws(BlockIOError) {
        self.init(byteCount: reader.byteCount, logicalSectorSize: reader.logicalSectorSize)
        for range in ranges.ranges {
            var position = range.lowerBound
            while position < range.upperBound {
                let end = min((position / Self.grain + 1) * Self.grain, range.upperBound)
                let bytes = try reader.readBytes(at: position, count: Int(end - position))
                if bytes.contains(where: { $0 != 0 }) {
                    if let last = parts.last, last.offset + UInt64(last.bytes.count) == position {
                        parts[parts.count - 1].bytes += bytes
                    } else {
                        parts.append((position, bytes))
                    }
                }
                position = end
            }
        }
    }

    init(_ file: [UInt8]) throws(ParsingError) {
        guard file.starts(with: Self.mark) else { throw .invalid(what: "the mark of a sparse disk") }
        self.init(
            byteCount: try file.littleEndian(at: 8), logicalSectorSize: Int(try file.littleEndian(UInt32.self, at: 16)))
        var place = 20
        while place < file.count {
            let count = Int(try file.littleEndian(UInt32.self, at: place + 8))
            parts.append((try file.littleEndian(at: place), try file.bytes(at: place + 12, count: count)))
            place += 12 + count
        }
    }

    /// The file.
    var file: [UInt8] {
        var bytes = Self.mark
        bytes.appendLittleEndian(byteCount)
        bytes.appendLittleEndian(UInt32(logicalSectorSize))
        for part in parts {
            bytes.appendLittleEndian(part.offset)
            bytes.appendLittleEndian(UInt32(part.bytes.count))
            bytes += part.bytes
        }
        return bytes
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = UInt64(buffer.count)
        guard count <= byteCount, offset <= byteCount - count else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: count, errorNumber: 0, reason: "past its end")
        }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let window = offset..<offset + count
        for part in parts {
            let place = part.offset..<part.offset + UInt64(part.bytes.count)
            let shared = place.clamped(to: window)
            guard !shared.isEmpty else { continue }
            part.bytes.withUnsafeBytes { bytes in
                let from = Int(shared.lowerBound - place.lowerBound)
                UnsafeMutableRawBufferPointer(rebasing: buffer[Int(shared.lowerBound - offset)...]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[from..<from + Int(shared.byteCount)]))
            }
        }
    }
}
