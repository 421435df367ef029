// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

extension ForeignTable {
    /// What the folder has of an MBR's surroundings.
    struct MBRSources {
        /// Block 0: boot code, and entries with addresses of cylinders.
        var record: [UInt8]?
        /// From sector 1 to before the first partition: the boot loader's second stage.
        var hidden: [UInt8] = []
        /// The first sector of the extended partition: boot code.
        var extendedRecord: [UInt8]?
    }

    /// The shortest disk, in sectors, that this table may be on.
    var leastMBRSectors: UInt64 { entries.map(\.end).max() ?? 1 }

    /// The MBR, the data behind it, and the chain of extended boot records, with remarks (UEFI 2.10 §5.2.1; the chain
    /// as the kernel's `block/partitions/msdos.c`, parse_extended, follows it).
    func mbr(on geometry: DiskGeometry, _ sources: MBRSources) throws(ParsingError) -> ([ForeignBytes], [String]) {
        let unit = UInt64(geometry.logicalSectorSize)
        guard leastMBRSectors <= geometry.byteCount / unit else { throw .invalid(what: "the end of the partitions") }
        let outer = entries.filter { $0.number <= 4 }
        let logicals = entries.filter { $0.number > 4 }
        try Self.checkDisjoint(outer)
        try Self.checkDisjoint(logicals)
        var warnings: [String] = []
        var head = [UInt8](repeating: 0, count: 512)
        if let record = sources.record, record.count >= 512 {
            head = Array(record[..<512])
        } else {
            warnings.append("the boot sector was not saved: the disk does not boot by BIOS until that is repaired")
        }
        if let signature { head.setLittleEndian(signature, at: 440) }
        var differs = false
        for slot in 0..<4 {
            let place = MasterBootRecord.entriesOffset + slot * 16
            let saved = Array(head[place..<place + 16])
            var wanted = [UInt8](repeating: 0, count: 16)
            if let entry = outer.first(where: { $0.number == slot + 1 }) {
                wanted = try Self.bytes(entry, from: 0)
                // The addresses of cylinders stay as they were captured.
                if Self.isSame(saved, wanted) { wanted = saved }
            }
            differs = differs || !Self.isSame(saved, wanted)
            head.replaceSubrange(place..<place + 16, with: wanted)
        }
        if differs, sources.record != nil {
            warnings.append("the saved boot sector has other partitions than the list of partitions, which is used")
        }
        head.setLittleEndian(MasterBootRecord.signature, at: MasterBootRecord.signatureOffset)
        // Only what lies before the first partition.
        let first = entries.map(\.start).min() ?? geometry.byteCount / unit
        let room = (first - 1).multipliedReportingOverflow(by: unit)
        if sources.hidden.isEmpty, first > 1, head[..<440].contains(where: { $0 != 0 }) {
            warnings.append(
                "the sectors between the boot sector and the first partition were not saved: if a boot loader was there "
                    + "(GRUB), the disk does not boot by BIOS until `reforge boot-repair` has put it back")
        }
        let hidden = sources.hidden.prefix(Int(clamping: room.overflow ? .max : room.partialValue))
        head += [UInt8](repeating: 0, count: Int(unit) - head.count) + hidden
        var fixed = [ForeignBytes(offset: 0, bytes: head)]
        if let extended = outer.first(where: \.isExtended) {
            fixed += try chain(logicals, in: extended, unit, sources.extendedRecord)
        } else if !logicals.isEmpty {
            throw .invalid(what: "a logical partition without an extended one")
        }
        return (fixed, warnings)
    }

    /// The chain follows the numbers. It begins at the start of the extended partition; each record but the first is in
    /// the sector before its partition.
    private func chain(
        _ logicals: [Entry], in extended: Entry, _ unit: UInt64, _ record: [UInt8]?
    ) throws(ParsingError) -> [ForeignBytes] {
        let places = logicals.enumerated().map { $0.offset == 0 ? extended.start : $0.element.start - 1 }
        for (index, place) in places.enumerated() {
            let isFree =
                !logicals.contains { $0.start <= place && place < $0.end }
                && !places[..<index].contains(place) && place >= extended.start
            guard isFree, logicals[index].end <= extended.end, logicals[index].start > extended.start else {
                throw .invalid(what: "the place of \(logicals[index].device)")
            }
        }
        var fixed: [ForeignBytes] = []
        for index in 0..<max(1, logicals.count) {
            var bytes = [UInt8](repeating: 0, count: 512)
            if index == 0, let record, record.count >= 512 {
                bytes.replaceSubrange(
                    0..<MasterBootRecord.entriesOffset, with: record[..<MasterBootRecord.entriesOffset])
            }
            let place = MasterBootRecord.entriesOffset
            if index < logicals.count {
                bytes.replaceSubrange(place..<place + 16, with: try Self.bytes(logicals[index], from: places[index]))
            }
            if index + 1 < logicals.count {
                let start = places[index + 1]
                var link = logicals[index + 1]
                (link.typeByte, link.isBootable) = (0x05, false)
                (link.start, link.count) = (start, link.end - start)
                bytes.replaceSubrange(place + 16..<place + 32, with: try Self.bytes(link, from: extended.start))
            }
            bytes.setLittleEndian(MasterBootRecord.signature, at: MasterBootRecord.signatureOffset)
            let start = index < places.count ? places[index] : extended.start
            fixed.append(ForeignBytes(offset: start * unit, bytes: bytes))
        }
        return fixed
    }

    private static func checkDisjoint(_ entries: [Entry]) throws(ParsingError) {
        var position: UInt64 = 1
        for entry in entries.sorted(by: { $0.start < $1.start }) {
            guard entry.start >= position else { throw .invalid(what: "the place of \(entry.device)") }
            position = entry.end
        }
    }

    /// An entry; its place is relative to the sector `base`.
    private static func bytes(_ entry: Entry, from base: UInt64) throws(ParsingError) -> [UInt8] {
        guard entry.start >= base, let start = UInt32(exactly: entry.start - base),
            let count = UInt32(exactly: entry.count)
        else { throw .invalid(what: "the place of \(entry.device), which no MBR can name,") }
        var bytes =
            [entry.isBootable ? 0x80 : 0] + address(entry.start) + [entry.typeByte] + address(entry.end - 1)
        bytes.appendLittleEndian(start)
        bytes.appendLittleEndian(count)
        return bytes
    }

    /// Whether two entries agree but for their addresses of cylinders.
    private static func isSame(_ one: [UInt8], _ other: [UInt8]) -> Bool {
        one[0] == other[0] && one[4] == other[4] && one[8...] == other[8...]
    }

    /// A sector's address with 255 heads and 63 sectors per track; the last possible one for sectors behind it.
    private static func address(_ sector: UInt64) -> [UInt8] {
        let (heads, sectors): (UInt64, UInt64) = (255, 63)
        let cylinder = sector / (heads * sectors)
        guard cylinder <= 1023 else { return [254, 0xFF, 0xFF] }
        return [
            UInt8(sector / sectors % heads), UInt8(sector % sectors + 1) | UInt8(cylinder >> 8) << 6,
            UInt8(cylinder & 0xFF),
        ]
    }
}
