// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport

/// A GPT built by hand (UEFI 2.10 §5.3), independent of the reader's code: for sector sizes and
/// damage that no tool produces.
struct GPTFixture {
    var sectorSize = 512
    var sectorCount = 4096
    var entryCount = 128
    var entrySize = 128
    /// First and last sector of each partition.
    var partitions: [(UInt64, UInt64)] = [(64, 127), (128, 1023)]

    var entrySectors: Int { (entryCount * entrySize + sectorSize - 1) / sectorSize }
    var firstUsable: UInt64 { UInt64(2 + entrySectors) }
    var lastUsable: UInt64 { UInt64(sectorCount - 2 - entrySectors) }
    static let diskGUID = "11111111-2222-3333-4444-555555555555"

    func disk() throws -> MemoryDisk { MemoryDisk(try bytes(), logicalSectorSize: sectorSize) }

    func bytes() throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: sectorCount * sectorSize)
        bytes[446 + 4] = 0xEE
        bytes.setLittleEndian(UInt32(1), at: 446 + 8)
        bytes.setLittleEndian(UInt32(sectorCount - 1), at: 446 + 12)
        bytes.setLittleEndian(UInt16(0xAA55), at: 510)
        var entries = [UInt8](repeating: 0, count: entryCount * entrySize)
        for (index, (first, last)) in partitions.enumerated() {
            let place = index * entrySize
            let type = try GUID(mixedEndianBytes: GUID(PartitionType.linuxFilesystem)?.mixedEndianBytes ?? [])
            entries.replaceSubrange(place..<place + 16, with: type.mixedEndianBytes)
            entries[place + 16] = UInt8(index + 1)
            entries.setLittleEndian(first, at: place + 32)
            entries.setLittleEndian(last, at: place + 40)
            entries.setLittleEndian(UInt64(1) << 60, at: place + 48)
            for (unit, character) in "päärt \(index)".utf16.enumerated() {
                entries.setLittleEndian(character, at: place + 56 + unit * 2)
            }
        }
        let last = UInt64(sectorCount - 1)
        for (own, other, entriesLBA) in [(1, last, 2 as UInt64), (last, 1 as UInt64, lastUsable + 1)] {
            bytes.replaceSubrange(
                Int(entriesLBA) * sectorSize..<Int(entriesLBA) * sectorSize + entries.count, with: entries)
            let at = Int(own) * sectorSize
            bytes.replaceSubrange(at..<at + 8, with: Array("EFI PART".utf8))
            bytes.setLittleEndian(UInt32(0x10000), at: at + 8)
            bytes.setLittleEndian(UInt32(92), at: at + 12)
            bytes.setLittleEndian(own, at: at + 24)
            bytes.setLittleEndian(other, at: at + 32)
            bytes.setLittleEndian(firstUsable, at: at + 40)
            bytes.setLittleEndian(lastUsable, at: at + 48)
            bytes.replaceSubrange(at + 56..<at + 72, with: GUID(Self.diskGUID)?.mixedEndianBytes ?? [])
            bytes.setLittleEndian(entriesLBA, at: at + 72)
            bytes.setLittleEndian(UInt32(entryCount), at: at + 80)
            bytes.setLittleEndian(UInt32(entrySize), at: at + 84)
            bytes.setLittleEndian(CRC32.iso.checksum(entries), at: at + 88)
            Self.fixHeader(&bytes, at: at)
        }
        return bytes
    }

    /// Repairs the checksum of the header at byte `at`, whatever size it has.
    static func fixHeader(_ bytes: inout [UInt8], at: Int) {
        bytes.setLittleEndian(UInt32(0), at: at + 16)
        let claimed = (try? bytes.littleEndian(UInt32.self, at: at + 12)) ?? 92
        let end = min(at + Int(claimed), bytes.count)
        bytes.setLittleEndian(CRC32.iso.checksum(Array(bytes[at..<end])), at: at + 16)
    }

    /// Repairs both checksums of the copy whose header is at byte `at`, as far as its fields are valid.
    func fixCopy(_ bytes: inout [UInt8], at: Int) {
        if let lba = try? bytes.littleEndian(UInt64.self, at: at + 72), lba < UInt64(sectorCount),
            let count = try? bytes.littleEndian(UInt32.self, at: at + 80), count < 4096,
            let size = try? bytes.littleEndian(UInt32.self, at: at + 84), size < 4096
        {
            let start = Int(lba) * sectorSize
            let end = min(start + Int(count) * Int(size), bytes.count)
            bytes.setLittleEndian(CRC32.iso.checksum(Array(bytes[start..<end])), at: at + 88)
        }
        Self.fixHeader(&bytes, at: at)
    }
}
