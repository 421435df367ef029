// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// An MBR with any number of logical partitions, built by hand: sfdisk neither makes nor shows more than 56 of them,
/// and libparted numbers 60.
package enum LogicalChain {
    /// One logical partition.
    package struct Row: Equatable, Sendable {
        /// Its range on the disk, in bytes.
        package var range: ByteRange
        /// Its type byte.
        package var type: UInt8
        /// Whether it is marked as bootable.
        package var isActive: Bool
    }

    /// The start of the extended partition, and the sectors that each logical one takes with its record.
    private static let start = 4096
    private static let step = 64

    /// The logical partitions, in the order of their numbers (from 5 on), of different lengths, types and flags.
    package static func rows(_ count: Int) -> [Row] {
        (0..<count).map { index in
            let first = UInt64(start + index * step + 16)
            return Row(
                range: first * 512..<(first + 40 + UInt64(index % 8)) * 512,
                type: [0x83, 0x82, 0x8E, 0x07][index % 4], isActive: index % 7 == 3)
        }
    }

    /// A disk with an active primary partition (1), an extended one (2), and that many logical ones.
    package static func disk(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: (start + count * step + 64) * 512)
        for (index, byte) in [0xCD, 0xAB, 0x34, 0x12].enumerated() { bytes[440 + index] = UInt8(byte) }
        setEntry(0, of: 0, in: &bytes, type: 0x07, isActive: true, start: 2048, count: 1024)
        setEntry(1, of: 0, in: &bytes, type: 0x0F, start: start, count: count * step)
        for (index, row) in rows(count).enumerated() {
            let record = start + index * step
            setEntry(
                0, of: record, in: &bytes, type: row.type, isActive: row.isActive,
                start: Int(row.range.lowerBound / 512) - record, count: Int(row.range.byteCount / 512))
            guard index + 1 < count else { continue }
            setEntry(1, of: record, in: &bytes, type: 0x05, start: (index + 1) * step, count: step)
        }
        return bytes
    }

    /// An entry (UEFI 2.10 §5.2.1, table 5-2), and the signature of its sector; starts, counts and places in sectors.
    private static func setEntry(
        _ index: Int, of sector: Int, in bytes: inout [UInt8], type: UInt8, isActive: Bool = false, start: Int,
        count: Int
    ) {
        let place = sector * 512 + 446 + index * 16
        bytes[place] = isActive ? 0x80 : 0
        bytes[place + 4] = type
        for byte in 0..<4 {
            bytes[place + 8 + byte] = UInt8(truncatingIfNeeded: start >> (byte * 8))
            bytes[place + 12 + byte] = UInt8(truncatingIfNeeded: count >> (byte * 8))
        }
        bytes[sector * 512 + 510] = 0x55
        bytes[sector * 512 + 511] = 0xAA
    }
}
