// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A registry hive (a primary file) of Windows, read strictly: every bin and cell is checked before the first key.
///
/// Format: "Windows registry file format specification" (M. Suhanov): base block, hive bin, cell. All numbers are
/// little-endian. Offsets of cells count from the first bin; this type translates them to offsets in the file.
package struct RegistryHive: Sendable {
    /// More than the SYSTEM hives of working systems have; bounds the memory.
    package static let largestByteCount = 64 << 20
    /// The length of the base block, in bytes; the bins follow it.
    static let baseBlockByteCount = 4096
    /// Signature, both sequence numbers, and the time of the last write: if they are unchanged, so is the hive.
    package static let stampByteCount = 20

    /// The bytes of the file, without what follows the last bin.
    let bytes: [UInt8]
    /// Of the last completed write.
    package let sequenceNumber: UInt32
    /// 3 to 5: since 4, long data is in segments.
    let minorVersion: UInt32
    /// Where allocated cells start.
    private let cells: CellMap
    private let rootOffset: UInt32

    /// - Parameter file: the whole file.
    /// - Throws: `dirty` if both sequence numbers differ or the checksum is wrong: Windows would replay its logs.
    package init(_ file: [UInt8]) throws(WindowsFileError) {
        guard file.count >= Self.baseBlockByteCount, file.starts(with: Array("regf".utf8)) else { throw .notAHive }
        guard file.count <= Self.largestByteCount else { throw .tooLarge(byteCount: file.count) }
        func field(_ offset: Int) throws(WindowsFileError) -> UInt32 {
            try WindowsFileError.parsing { () throws(ParsingError) in try file.littleEndian(at: offset) }
        }
        guard try field(508) == Self.checksum(file) else { throw .dirty("the checksum of its header is wrong") }
        sequenceNumber = try field(8)  // secondary sequence number
        guard try field(4) == sequenceNumber else {
            throw .dirty("its sequence numbers \(try field(4)) and \(sequenceNumber) differ")
        }
        minorVersion = try field(24)
        // Major version 1; file type 0: a primary file; file format 1: direct memory load. Minor version 6 belongs to
        // differencing hives of containers.
        guard try field(20) == 1, (3...5).contains(minorVersion), try field(28) == 0, try field(32) == 1 else {
            throw .damaged("its version or type is not known")
        }
        rootOffset = try field(36)
        guard let binsByteCount = Int(exactly: try field(40)), binsByteCount > 0, binsByteCount % 4096 == 0,
            binsByteCount <= file.count - Self.baseBlockByteCount
        else { throw .damaged("its bins do not lie in the file") }
        bytes = Array(file[..<(Self.baseBlockByteCount + binsByteCount)])
        cells = try CellMap(bytes, from: Self.baseBlockByteCount)
    }

    /// XOR of the first 127 words; 0 and all ones are avoided.
    static func checksum(_ file: [UInt8]) -> UInt32 {
        var sum: UInt32 = 0
        for offset in stride(from: 0, to: 508, by: 4) {
            sum ^= (try? file.littleEndian(UInt32.self, at: offset)) ?? 0
        }
        return sum == 0 ? 1 : sum == .max ? .max - 1 : sum
    }

    /// The root key.
    package var root: HiveKey { get throws(WindowsFileError) { try key(at: rootOffset) } }

    /// The contents of an allocated cell, as a range of the file in bytes.
    func cell(at offset: UInt32) throws(WindowsFileError) -> Range<Int> {
        guard let place = Int(exactly: offset), place < bytes.count - Self.baseBlockByteCount else {
            throw .damaged("a reference leads outside of its bins")
        }
        guard let cell = cells.contents(at: place + Self.baseBlockByteCount, in: bytes) else {
            throw .damaged("a reference leads to no cell")
        }
        return cell
    }

    /// A field of a cell.
    func field<T: FixedWidthInteger & BitwiseCopyable>(
        _ cell: Range<Int>, _ offset: Int, _ type: T.Type = T.self
    ) throws(WindowsFileError) -> T {
        guard offset >= 0, offset <= cell.count - MemoryLayout<T>.size else {
            throw .damaged("a cell is shorter than its record")
        }
        return try WindowsFileError.parsing { () throws(ParsingError) in
            try bytes.littleEndian(type, at: cell.lowerBound + offset)
        }
    }

    /// Whether a cell starts with these two letters.
    func has(_ cell: Range<Int>, _ signature: StaticString) -> Bool {
        cell.count >= 2 && bytes[cell.lowerBound..<cell.lowerBound + 2].elementsEqual(signature.description.utf8)
    }

    /// A name: Latin-1 if `isCompressed`, else UTF-16.
    func name(_ cell: Range<Int>, at offset: Int, byteCount: Int, isCompressed: Bool) throws(WindowsFileError) -> String
    {
        guard byteCount >= 0, offset <= cell.count, byteCount <= cell.count - offset, isCompressed || byteCount % 2 == 0
        else { throw .damaged("a name is longer than its cell") }
        let raw = bytes[cell.lowerBound + offset..<cell.lowerBound + offset + byteCount]
        guard !isCompressed else { return String(String.UnicodeScalarView(raw.map { Unicode.Scalar($0) })) }
        return Self.text(Array(raw))
    }

    /// UTF-16 as text; malformed parts are replaced.
    static func text(_ raw: [UInt8]) -> String {
        String(decoding: (0..<raw.count / 2).map { UInt16(raw[2 * $0]) | UInt16(raw[2 * $0 + 1]) << 8 }, as: UTF16.self)
    }
}
