// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The tables of a qcow2 image that say where its clusters are. QEMU reads zeros where they point past the end of a
/// file, as after a copy that was cut off, so that is looked for before.
struct QcowTables: Equatable, Sendable {
    var clusterByteCount: UInt64
    /// The length of the disk in bytes.
    var byteCount: UInt64
    /// The place and the number of entries of the first table.
    var offset: UInt64
    var entryCount: UInt32
    /// Whether an entry of the second tables has 16 bytes, with the state of 32 parts of its cluster.
    var isExtended: Bool

    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    private static let (isZero, isCompressed, isInUse): (UInt64, UInt64, UInt64) = (1, 1 << 62, 1 << 63)
    /// QEMU's own limit (`QCOW_MAX_L1_SIZE`).
    private static let mostEntries: UInt64 = (32 << 20) / 8

    /// - Parameter data: the file with the clusters; `nil` for `file` itself.
    func check(_ file: any BlockReader, data: (any BlockReader)?) throws(ImageError) {
        let perTable = clusterByteCount / (isExtended ? 16 : 8)
        let covered = perTable * clusterByteCount
        let count = byteCount / covered + (byteCount % covered == 0 ? 0 : 1)
        guard count <= UInt64(entryCount), count <= Self.mostEntries else {
            throw file.damaged("its first table does not cover the disk", at: 36)
        }
        let first = try file.part(at: offset, count: Int(count) * 8)
        // Tables that overlap could make this endless.
        var rest = file.byteCount
        for index in 0..<count {
            let entry = try entry(first, Int(index) * 8, file)
            let place = entry & Self.offsetMask
            guard place != 0 else { continue }
            guard rest >= clusterByteCount else { throw file.damaged("its tables overlap", at: place) }
            rest -= clusterByteCount
            let table = try file.part(at: place, count: Int(clusterByteCount))
            try check(table, from: index * covered, file, data)
        }
    }

    /// - Parameter start: the first byte of the disk that the table is for.
    private func check(
        _ table: [UInt8], from start: UInt64, _ file: any BlockReader, _ data: (any BlockReader)?
    ) throws(ImageError) {
        let holder = data ?? file
        for number in 0..<Int(clusterByteCount) / (isExtended ? 16 : 8) {
            let position = start + UInt64(number) * clusterByteCount
            guard position < byteCount else { return }
            let entry = try entry(table, number * (isExtended ? 16 : 8), file)
            guard entry != 0 else { continue }
            guard entry & Self.isCompressed == 0 else {
                guard lastSector(ofCompressed: entry) < file.byteCount else {
                    throw .truncated(name: file.name, at: file.byteCount)
                }
                continue
            }
            let place = entry & Self.offsetMask
            guard place != 0 || data != nil && entry & Self.isInUse != 0 else { continue }
            var used = clusterByteCount
            if isExtended {
                let parts = UInt32(truncatingIfNeeded: try self.entry(table, number * 16 + 8, file))
                used = clusterByteCount / 32 * UInt64(32 - parts.leadingZeroBitCount)
            } else if entry & Self.isZero != 0 {
                used = 0
            }
            guard used == 0 || place + min(used, byteCount - position) <= holder.byteCount else {
                throw .truncated(name: holder.name, at: holder.byteCount)
            }
        }
    }

    /// The offset of the last sector of a compressed cluster, which has no checksum ("Compressed Clusters Descriptor").
    /// The file may end anywhere in it.
    private func lastSector(ofCompressed entry: UInt64) -> UInt64 {
        let countBits = UInt64(clusterByteCount.trailingZeroBitCount - 8)
        let offsetBits = 62 - countBits
        let offset = entry & ((1 << offsetBits) - 1)
        return offset / 512 * 512 + (entry >> offsetBits & ((1 << countBits) - 1)) * 512
    }

    private func entry(_ table: [UInt8], _ offset: Int, _ file: any BlockReader) throws(ImageError) -> UInt64 {
        try file.parsing(at: self.offset) { () throws(ParsingError) in try table.bigEndian(UInt64.self, at: offset) }
    }
}
