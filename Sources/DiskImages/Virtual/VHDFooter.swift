// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The footer of a VHD image (Microsoft, *Virtual Hard Disk Image Format Specification* 1.0): the last 512 bytes, and of
/// a dynamic disk also the first.
enum VHDFooter {
    static let cookie = "conectix"
    static let byteCount = 512
    private static let (fixed, dynamic, differencing): (UInt32, UInt32, UInt32) = (2, 3, 4)

    /// Whether a file ends with a footer whose checksum is right. A raw disk does so by chance never.
    static func isAtEnd(of file: any BlockReader) throws(ImageError) -> Bool {
        guard file.byteCount >= UInt64(2 * byteCount) else { return false }
        return isFooter(try file.part(at: file.byteCount - UInt64(byteCount), count: byteCount))
    }

    static func isFooter(_ bytes: [UInt8]) -> Bool {
        bytes.count == byteCount && bytes.starts(with: Array(cookie.utf8)) && hasChecksum(bytes, at: 64)
    }

    /// The one's complement of the sum of all other bytes.
    private static func hasChecksum(_ bytes: [UInt8], at offset: Int) -> Bool {
        guard let stored = try? bytes.bigEndian(UInt32.self, at: offset) else { return false }
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() where !(offset..<offset + 4).contains(index) { sum &+= UInt32(byte) }
        return ~sum == stored
    }

    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        guard file.byteCount >= UInt64(2 * byteCount) else { throw .truncated(name: file.name, at: file.byteCount) }
        let first = try file.part(at: 0, count: byteCount)
        let end = file.byteCount - UInt64(byteCount)
        let isDynamic = first.starts(with: Array(cookie.utf8))
        let footer = isDynamic ? first : try file.part(at: end, count: byteCount)
        guard isFooter(footer) else {
            throw file.damaged("the checksum of its VHD footer is wrong", at: isDynamic ? 0 : end)
        }
        let (type, size, dynamicOffset) = try file.parsing(at: 0) { () throws(ParsingError) in
            (
                try footer.bigEndian(UInt32.self, at: 60), try footer.bigEndian(UInt64.self, at: 48),
                try footer.bigEndian(UInt64.self, at: 16)
            )
        }
        guard type != differencing else {
            throw file.refused(
                "it is a differencing VHD, which holds only the changes to another one",
                instead: "Merge it first (Hyper-V: Convert-VHD)")
        }
        guard size > 0, size % 512 == 0 else { throw file.damaged("the length of its disk", at: 48) }
        var header = VirtualHeader(format: .vhd, byteCount: size)
        if isDynamic {
            guard type == dynamic else { throw file.damaged("its VHD type \(type)", at: 60) }
            try checkDynamic(file, at: dynamicOffset, size: size)
        } else {
            guard type == fixed else { throw file.damaged("its VHD type \(type)", at: end + 60) }
            guard size <= end else { throw .truncated(name: file.name, at: file.byteCount) }
            header.plainByteCount = size
        }
        return header
    }

    private static func checkDynamic(
        _ file: any BlockReader, at offset: UInt64, size: UInt64
    ) throws(ImageError) {
        let bytes = try file.part(at: offset, count: 1024)
        guard bytes.starts(with: Array("cxsparse".utf8)), hasChecksum(bytes, at: 36) else {
            throw file.damaged("its dynamic disk header", at: offset)
        }
        let (tableOffset, entryCount, blockByteCount) = try file.parsing(at: offset) { () throws(ParsingError) in
            (
                try bytes.bigEndian(UInt64.self, at: 16), try bytes.bigEndian(UInt32.self, at: 28),
                UInt64(try bytes.bigEndian(UInt32.self, at: 32))
            )
        }
        guard blockByteCount >= 512, UInt64(entryCount) * blockByteCount >= size else {
            throw file.damaged("its blocks do not cover the disk", at: offset + 28)
        }
        // QEMU reads zeros in place of the end of a block that is cut off, up to a sector.
        let count = size / blockByteCount + (size % blockByteCount == 0 ? 0 : 1)
        guard count * 4 <= file.byteCount, tableOffset <= file.byteCount - count * 4 else {
            throw .truncated(name: file.name, at: file.byteCount)
        }
        // A bit for each sector, in whole sectors.
        let bitmapByteCount = (blockByteCount / 512 + 4095) / 4096 * 512
        // Blocks of one sector make a table of gigabytes.
        let perPiece: UInt64 = 1 << 18
        var table: [UInt8] = []
        for index in 0..<count {
            if index % perPiece == 0 {
                table = try file.part(at: tableOffset + index * 4, count: Int(min(perPiece, count - index)) * 4)
            }
            let sector = try file.parsing(at: tableOffset) { () throws(ParsingError) in
                try table.bigEndian(UInt32.self, at: Int(index % perPiece) * 4)
            }
            guard sector != .max else { continue }
            let end = UInt64(sector) * 512 + bitmapByteCount + min(blockByteCount, size - index * blockByteCount)
            guard end <= file.byteCount else { throw .truncated(name: file.name, at: file.byteCount) }
        }
    }
}
