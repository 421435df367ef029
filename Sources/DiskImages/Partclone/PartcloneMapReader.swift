// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// Reads the bitmap of a partclone image.
struct PartcloneMapReader {
    let header: PartcloneHeader
    let content: PieceContent
    private static let pieceByteCount = 1 << 20
    /// More runs of used blocks would take more than 512 MiB of memory.
    private static let mostRanges = 1 << 25

    init(_ header: PartcloneHeader, _ content: PieceContent) {
        self.header = header
        self.content = content
    }

    /// The ranges of the stored blocks, in bytes of the volume.
    func read() throws(ImageError) -> AllocationMap {
        switch header.bitmap {
        case .none:
            var map = AllocationMap(byteCount: header.deviceByteCount)
            map.insert(0..<header.blocksByteCount)
            return map
        case .bits: return try readBits()
        case .bytes: return try readBytes()
        }
    }

    private func damaged(_ what: String) -> ImageError {
        .damaged(name: content.name, what: what, fileOffset: content.position, disk: nil, partition: nil)
    }

    private func next(_ count: Int) throws(ImageError) -> [UInt8] {
        let bytes = try content.next(count)
        guard bytes.count == count else { throw .truncated(name: content.name, at: content.byteCount) }
        return bytes
    }

    /// Bits behind the last block do not count.
    private func readBits() throws(ImageError) -> AllocationMap {
        var runs = BlockRuns(header, content.name)
        var left = header.blockCount / 8 + (header.blockCount % 8 == 0 ? 0 : 1)
        var crc: UInt32 = .max
        while left > 0 {
            let bytes = try next(Int(min(left, UInt64(Self.pieceByteCount))))
            crc = CRC32.iso.update(crc, bytes)
            for byte in bytes {
                if byte == 0 || byte == 0xFF {
                    try runs.append(8, isUsed: byte != 0)
                } else {
                    for bit in 0..<8 as Range<UInt8> { try runs.append(1, isUsed: byte >> bit & 1 == 1) }
                }
            }
            left -= UInt64(bytes.count)
        }
        let stored = try next(4)
        guard (try? stored.littleEndian(UInt32.self, at: 0)) == crc else {
            throw damaged("the checksum of its bitmap does not fit")
        }
        return try runs.map()
    }

    /// Exactly 1 means that the block is there.
    private func readBytes() throws(ImageError) -> AllocationMap {
        var runs = BlockRuns(header, content.name)
        var left = header.blockCount
        while left > 0 {
            let bytes = try next(Int(min(left, UInt64(Self.pieceByteCount))))
            for byte in bytes { try runs.append(1, isUsed: byte == 1) }
            left -= UInt64(bytes.count)
        }
        guard try next(PartcloneHeader.bitmapMark.count) == PartcloneHeader.bitmapMark else {
            throw damaged("the mark behind its bitmap is missing")
        }
        return try runs.map()
    }

    /// Joins blocks to ranges.
    private struct BlockRuns {
        private var result: AllocationMap
        private let blockSize: UInt64
        private let blockCount: UInt64
        private let name: String
        private var position: UInt64 = 0
        private var start: UInt64?

        init(_ header: PartcloneHeader, _ name: String) {
            result = AllocationMap(byteCount: header.deviceByteCount)
            blockSize = UInt64(header.blockSize)
            blockCount = header.blockCount
            self.name = name
        }

        mutating func append(_ count: UInt64, isUsed: Bool) throws(ImageError) {
            if isUsed, start == nil, position < blockCount { start = position }
            if !isUsed { try end() }
            position += count
        }

        private mutating func end() throws(ImageError) {
            guard let start else { return }
            self.start = nil
            result.insert(start * blockSize..<min(position, blockCount) * blockSize)
            guard result.ranges.count <= mostRanges else {
                throw .unsupported(name: name, what: "its volume has more than \(mostRanges) fragments")
            }
        }

        mutating func map() throws(ImageError) -> AllocationMap {
            try end()
            return result
        }
    }
}
