// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension GPTHeaderFields {
    /// The header of a new table with entries of 128 bytes (UEFI 2.10 §5.3.2, table 5-5); its addresses and the
    /// checksum of its entries are 0.
    package init(diskGUID: GUID, entryCount: Int) throws(ParsingError) {
        guard let count = UInt32(exactly: entryCount), count > 0 else {
            throw .invalid(what: "a GPT of \(entryCount) entries")
        }
        var bytes = [UInt8](repeating: 0, count: Self.leastByteCount)
        bytes.replaceSubrange(0..<8, with: Self.signature)
        bytes.setLittleEndian(0x0001_0000 as UInt32, at: Offset.revision)
        bytes.setLittleEndian(UInt32(Self.leastByteCount), at: Offset.headerSize)
        bytes.replaceSubrange(Offset.diskGUID..<Offset.diskGUID + 16, with: diskGUID.mixedEndianBytes)
        bytes.setLittleEndian(count, at: Offset.entryCount)
        bytes.setLittleEndian(128 as UInt32, at: Offset.entrySize)
        bytes.setLittleEndian(Self.checksum(bytes), at: Offset.checksum)
        try self.init(bytes)
    }
}

extension Partition {
    /// Its GPT entry (UEFI 2.10 §5.3.3, table 5-6), for sectors of `sectorSize` bytes; `nil` if it does not lie on whole
    /// sectors. A name of more than 36 UTF-16 units is cut off.
    /// - Parameter byteCount: the length of an entry, at least 128 bytes.
    package func gptEntry(sectorSize: Int, byteCount: Int = 128) -> [UInt8]? {
        let unit = UInt64(max(1, sectorSize))
        guard range.lowerBound % unit == 0, range.upperBound % unit == 0, !range.isEmpty, byteCount >= 128 else {
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: byteCount)
        bytes.replaceSubrange(GPTEntryOffset.type..<GPTEntryOffset.type + 16, with: typeGUID.mixedEndianBytes)
        bytes.replaceSubrange(GPTEntryOffset.guid..<GPTEntryOffset.guid + 16, with: guid.mixedEndianBytes)
        bytes.setLittleEndian(range.lowerBound / unit, at: GPTEntryOffset.firstLBA)
        bytes.setLittleEndian(range.upperBound / unit - 1, at: GPTEntryOffset.lastLBA)
        bytes.setLittleEndian(attributes, at: GPTEntryOffset.attributes)
        for (index, unit) in name.utf16.prefix(36).enumerated() {
            bytes.setLittleEndian(unit, at: GPTEntryOffset.name + 2 * index)
        }
        return bytes
    }
}
