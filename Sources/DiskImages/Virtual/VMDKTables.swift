// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The tables of a sparse extent of a VMDK that say where its grains are (VMware, *Virtual Disk Format 5.0*, "Hosted
/// Sparse Extent"). QEMU reads zeros where they point past the end of the file, as after a copy that was cut off.
struct VMDKTables {
    private let flags: UInt32
    private let capacity: UInt64
    private let grainSectorCount: UInt64
    private let perTable: UInt64
    private let directory: UInt64

    private static let (hasZeroGrains, isCompressed): (UInt32, UInt32) = (1 << 2, 1 << 16)
    /// QEMU's own limits (`vmdk_open_vmdk4`, `vmdk_add_extent`).
    private static let (longestGrain, mostPerTable, mostTables): (UInt64, UInt64, UInt64) = (
        (1 << 30) / 512, 512, (32 << 20) / 4
    )

    /// - Parameter header: the header that counts.
    init(_ header: [UInt8]) throws(ParsingError) {
        flags = try header.littleEndian(at: 8)
        capacity = try header.littleEndian(at: 12)
        grainSectorCount = try header.littleEndian(at: 20)
        perTable = UInt64(try header.littleEndian(UInt32.self, at: 44))
        directory = try header.littleEndian(at: 56)
    }

    func check(_ file: any BlockReader) throws(ImageError) {
        guard (1...Self.longestGrain).contains(grainSectorCount), (1...Self.mostPerTable).contains(perTable),
            capacity <= VirtualHeader.largest / 512, directory <= VirtualHeader.largest / 512
        else { throw file.damaged("the measures in its header", at: 20) }
        let covered = grainSectorCount * perTable
        let count = capacity / covered + (capacity % covered == 0 ? 0 : 1)
        guard count <= Self.mostTables else { throw file.damaged("the measures in its header", at: 20) }
        let first = try file.part(at: directory * 512, count: Int(count) * 4)
        // Tables that overlap could make this endless.
        var rest = file.byteCount
        for index in 0..<count {
            let place = try entry(first, index, file)
            guard place != 0 else { continue }
            guard rest >= perTable * 4 else { throw file.damaged("its tables overlap", at: place * 512) }
            rest -= perTable * 4
            let table = try file.part(at: place * 512, count: Int(perTable) * 4)
            for number in 0..<perTable {
                try check(try entry(table, number, file), at: index * covered + number * grainSectorCount, file)
            }
        }
    }

    /// - Parameters:
    ///   - grain: the sector of a grain in the file.
    ///   - position: its sector on the disk.
    private func check(_ grain: UInt64, at position: UInt64, _ file: any BlockReader) throws(ImageError) {
        guard position < capacity, grain != 0, grain != 1 || flags & Self.hasZeroGrains == 0 else { return }
        // A compressed grain that is cut off cannot be decompressed, which QEMU reports.
        let count = flags & Self.isCompressed != 0 ? 1 : min(grainSectorCount, capacity - position)
        guard (grain + count) * 512 <= file.byteCount else {
            throw .truncated(name: file.name, at: file.byteCount)
        }
    }

    private func entry(_ table: [UInt8], _ index: UInt64, _ file: any BlockReader) throws(ImageError) -> UInt64 {
        try file.parsing(at: directory * 512) { () throws(ParsingError) in
            UInt64(try table.littleEndian(UInt32.self, at: Int(index) * 4))
        }
    }
}
