// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// ldlinux.sys and the boot record that loads it (SYSLINUX 6.04, libinstaller/syslinux.h and syslxmod.c). Both hold
/// sectors of 512 bytes relative to their partition, so that a moved partition starts; moved blocks do not.
struct ExtlinuxLoader {
    /// `struct syslinux_extent`: sectors of a part of the file.
    struct Extent: Equatable {
        var sector: UInt64
        var count: UInt16
    }

    /// LDLINUX_MAGIC.
    private static let magic: UInt32 = 0x3EB2_02FE
    /// The texts of the boot record (ldlinux.bss/extlinux: the OEM name).
    private static let systemName = Array("SYSLINUX".utf8)
    /// The patch area is in the first sector of the file.
    private static let searched = 512

    /// The offsets of the two halves of the file's first sector in the boot record.
    let pointerOffsets: (low: Int, high: Int)
    /// Those of the rest of the file.
    let extents: [Extent]
    /// The sectors of the file that are loaded by number, without its last two (the auxiliary data vector).
    let sectorCount: Int
    /// The folder that it was installed in, as it finds it at the start.
    let folder: String
    private let file: [UInt8]

    /// Reads the places from a file.
    /// - Throws: `ParsingError` if it is no ldlinux.sys, or not installed.
    init(_ file: [UInt8]) throws(ParsingError) {
        self.file = file
        var offset: Int?
        for place in stride(from: 0, to: min(file.count, Self.searched) - 3, by: 4) {
            if try file.littleEndian(UInt32.self, at: place) == Self.magic { offset = place }
        }
        guard let area = offset else { throw .invalid(what: "the mark of ldlinux.sys") }
        // struct patch_area: magic, instance, data_sectors, adv_sectors, dwords, checksum, maxtransfer, epaoffset.
        sectorCount = Int(try file.littleEndian(UInt16.self, at: area + 8))
        let extended = Int(try file.littleEndian(UInt16.self, at: area + 22))
        // struct ext_patch_area, 16 bits each.
        func field(_ index: Int) throws(ParsingError) -> Int {
            Int(try file.littleEndian(UInt16.self, at: extended + 2 * index))
        }
        folder = try file.text(at: try field(1), count: try field(2))
        pointerOffsets = (try field(7), try field(8))
        var extents: [Extent] = []
        let first = try field(5)
        for index in 0..<(try field(6)) {
            let sector = try file.littleEndian(UInt64.self, at: first + 10 * index)
            let count = try file.littleEndian(UInt16.self, at: first + 10 * index + 8)
            guard count > 0 else { break }
            extents.append(Extent(sector: sector, count: count))
        }
        self.extents = extents
        guard sectorCount > 1, file.count >= sectorCount * 512 else {
            throw .invalid(what: "the length of ldlinux.sys")
        }
    }

    /// Whether a partition's first sector is SYSLINUX's boot record.
    static func isBootRecord(_ sector: [UInt8]) -> Bool {
        sector.count >= 512 && sector[3..<11].elementsEqual(systemName)
            && (try? sector.littleEndian(UInt32.self, at: 504)) == magic
    }

    /// The reason the boot record of a partition does not load this file from its sectors, as a sentence part; `nil` if
    /// it does.
    func problem(in partition: any BlockReader) throws(BlockIOError) -> String? {
        let sectors = partition.byteCount / 512
        guard sectors > 0 else { return "its partition is empty" }
        let record = try partition.readBytes(at: 0, count: 512)
        guard Self.isBootRecord(record) else { return "the partition has no boot record of SYSLINUX" }
        guard let low = try? record.littleEndian(UInt32.self, at: pointerOffsets.low),
            let high = try? record.littleEndian(UInt32.self, at: pointerOffsets.high)
        else { return "its boot record is damaged" }
        let moved = "the blocks of ldlinux.sys are not where the boot record looks for them"
        let start = UInt64(high) << 32 | UInt64(low)
        guard start < sectors else { return moved }
        guard try partition.readBytes(at: start * 512, count: 512).elementsEqual(file[..<512]) else { return moved }
        var done = 1
        for extent in extents where done < sectorCount {
            guard extent.sector < sectors, UInt64(extent.count) <= sectors - extent.sector else { return moved }
            let count = min(Int(extent.count), sectorCount - done)
            let bytes = try partition.readBytes(at: extent.sector * 512, count: count * 512)
            guard bytes.elementsEqual(file[(done * 512)..<((done + count) * 512)]) else { return moved }
            done += count
        }
        return done == sectorCount ? nil : "ldlinux.sys does not name all of its blocks"
    }
}
