// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Where the allocated cells of a hive start: a bit for each 8 bytes, as cells are aligned to 8 bytes.
///
/// A reference is followed only to such a place: a record inside another one, or in free space, is never read.
struct CellMap: Sendable {
    private let start: Int
    private var bits: [UInt64]

    /// Walks all bins and their cells.
    /// - Parameter start: the offset of the first bin in the file, in bytes.
    init(_ bytes: [UInt8], from start: Int) throws(WindowsFileError) {
        self.start = start
        bits = [UInt64](repeating: 0, count: (bytes.count - start) / 8 / 64 + 1)
        var bin = start
        while bin < bytes.count {
            let (place, size) = try WindowsFileError.parsing { () throws(ParsingError) in
                guard try bytes.bytes(at: bin, count: 4) == Array("hbin".utf8) else {
                    throw .invalid(what: "the signature of a bin")
                }
                return (
                    try bytes.littleEndian(UInt32.self, at: bin + 4), try bytes.littleEndian(UInt32.self, at: bin + 8)
                )
            }
            guard UInt64(place) == UInt64(bin - start), size >= 4096, size % 4096 == 0,
                UInt64(size) <= UInt64(bytes.count - bin)
            else { throw .damaged("the place or the size of a bin") }
            try mark(bytes, bin + 32..<bin + Int(size))  // behind the header
            bin += Int(size)
        }
    }

    /// Marks the allocated cells of a bin, which they fill.
    private mutating func mark(_ bytes: [UInt8], _ bin: Range<Int>) throws(WindowsFileError) {
        var cell = bin.lowerBound
        while cell < bin.upperBound {
            let size = try WindowsFileError.parsing { () throws(ParsingError) in
                try bytes.littleEndian(Int32.self, at: cell)
            }
            // Negative if it is allocated.
            guard size.magnitude >= 8, size.magnitude % 8 == 0, size.magnitude <= UInt32(bin.upperBound - cell) else {
                throw .damaged("the size of a cell")
            }
            if size < 0 {
                let index = (cell - start) / 8
                bits[index / 64] |= 1 << UInt64(index % 64)
            }
            cell += Int(size.magnitude)
        }
    }

    /// The contents of the allocated cell that starts at an offset of the file; `nil` if none does.
    func contents(at offset: Int, in bytes: [UInt8]) -> Range<Int>? {
        let index = (offset - start) / 8
        guard offset >= start, (offset - start) % 8 == 0, index / 64 < bits.count,
            bits[index / 64] >> UInt64(index % 64) & 1 == 1,
            let size = try? bytes.littleEndian(Int32.self, at: offset)
        else { return nil }
        return offset + 4..<offset + Int(size.magnitude)
    }
}
