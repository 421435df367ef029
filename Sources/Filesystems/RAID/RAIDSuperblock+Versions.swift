// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension RAIDSuperblock {
    /// Bits of feature_map.
    private enum Feature {
        static let bitmap: UInt32 = 1  // MD_FEATURE_BITMAP_OFFSET
        static let recovery: UInt32 = 2 | 128  // MD_FEATURE_RECOVERY_OFFSET, _RECOVERY_BITMAP
        static let reshape: UInt32 = 4 | 32 | 64  // _RESHAPE_ACTIVE, _RESHAPE_BACKWARDS, _NEW_OFFSET
        static let badBlocks: UInt32 = 8  // _BAD_BLOCKS: the list is not empty
        static let replacement: UInt32 = 16  // _REPLACEMENT
    }

    /// All numbers little-endian, lengths in sectors.
    static func version1(
        _ bytes: [UInt8], _ offset: UInt64, _ version: String
    ) throws(ParsingError) -> RAIDSuperblock {
        let roleCount = Int(try bytes.littleEndian(UInt32.self, at: 220))  // max_dev
        guard roleCount <= (byteCount - 256) / 2 else {
            throw .invalid(what: "the number of roles in its md superblock")
        }
        var summed = Array(bytes[..<(256 + 2 * roleCount)])
        summed.setLittleEndian(0 as UInt32, at: 216)
        guard try checksum(summed) == bytes.littleEndian(UInt32.self, at: 216) else {  // sb_csum
            throw .invalid(what: "the checksum of its md superblock")
        }
        guard try bytes.littleEndian(UInt64.self, at: 144) == offset / 512 else {  // super_offset
            throw .invalid(what: "the place of its md superblock in itself")
        }
        let features = try bytes.littleEndian(UInt32.self, at: 8)  // feature_map
        let start = try sectors(try bytes.littleEndian(UInt64.self, at: 128), "data_offset of md")
        let room = try sectors(try bytes.littleEndian(UInt64.self, at: 136), "data_size of md")
        let length = try sectors(try bytes.littleEndian(UInt64.self, at: 80), "size of md")
        let end = try start.adding(max(room, length), "the end of its md data")
        var superblock = RAIDSuperblock(
            version: version, place: offset..<offset + UInt64(byteCount), uuid: try bytes.bytes(at: 16, count: 16),
            name: try bytes.text(at: 32, count: 32), level: try bytes.littleEndian(Int32.self, at: 72),
            memberCount: try bytes.littleEndian(UInt32.self, at: 92), data: start..<start + length)
        for (isThere, field) in [(features & Feature.bitmap != 0, 96), (bytes[186] | bytes[187] != 0, 188)]
        where isThere {
            // bitmap_offset, bblog_offset: signed, in sectors from the superblock.
            let distance = Int64(try bytes.littleEndian(Int32.self, at: field)) * 512
            let (place, overflow) = Int64(clamping: offset).addingReportingOverflow(distance)
            guard !overflow, place >= 0 else { throw .invalid(what: "the place of md's bitmap or bad-block list") }
            superblock.others.append(UInt64(place))
        }
        let number = Int(try bytes.littleEndian(UInt32.self, at: 160))  // dev_number
        let role = number < roleCount ? try bytes.littleEndian(UInt16.self, at: 256 + 2 * number) : 0xFFFF
        // pad0 and pad3 must be zero (super_1_load); otherwise there is an unknown feature.
        let padding = bytes[12..<16] + bytes[224..<256]
        superblock.problem =
            if length > room || end < start {
                "its array is larger than its md member"
            } else if features & Feature.reshape != 0 {
                "its array is being reshaped"
            } else if features & (Feature.recovery | Feature.replacement) != 0 {
                "its array is being rebuilt"
            } else if features & Feature.badBlocks != 0 {
                "md noted bad blocks on it"
            } else if features & ~Feature.bitmap != 0 || padding.contains(where: { $0 != 0 }) {
                "its array has a feature that is not known here"
            } else if role >= 0xFF00 || UInt32(role) >= superblock.memberCount {
                role == 0xFFFE ? "md calls it faulty" : "it is a spare of its array"
            } else if try bytes.littleEndian(UInt64.self, at: 208) != .max {  // resync_offset
                "its array was not cleanly stopped, or is not in sync"
            } else {
                nil
            }
        return superblock
    }

    /// 32-bit words in the byte order of the machine that wrote them; the size in KiB. The data start at byte 0.
    static func version0(_ bytes: [UInt8], _ offset: UInt64) throws(ParsingError) -> RAIDSuperblock {
        func word(_ index: Int) throws(ParsingError) -> UInt32 { try bytes.littleEndian(UInt32.self, at: 4 * index) }
        var summed = bytes
        summed.setLittleEndian(0 as UInt32, at: 4 * 38)
        // Compared as in the kernel (csum_fold): older kernels computed the sum in another way.
        guard try folded(checksum(summed)) == folded(try word(38)) else {  // sb_csum
            throw .invalid(what: "the checksum of its md superblock")
        }
        var uuid: [UInt8] = []
        for index in [5, 13, 14, 15] {  // set_uuid0 to 3
            let part = try word(index)
            uuid += (0..<4).map { UInt8(truncatingIfNeeded: part >> UInt32(24 - 8 * $0)) }
        }
        let length = UInt64(try word(8)) * 1024  // size
        var superblock = RAIDSuperblock(
            version: "0.90", place: offset..<offset + UInt64(byteCount), uuid: uuid, name: "",
            level: Int32(bitPattern: try word(7)), memberCount: try word(10), data: 0..<length)
        let state = try word(33)
        let minor = try word(2)  // 91 while a reshape is under way
        let role = try word(995)  // this_disk.raid_disk
        let diskState = try word(996)  // this_disk.state: MD_DISK_FAULTY 0, _ACTIVE 1, _SYNC 2, _REMOVED 3
        superblock.problem =
            if minor != 90 {
                minor == 91 ? "its array is being reshaped" : "its array has a feature that is not known here"
            } else if diskState & 0b1001 != 0 {
                "md calls it faulty"
            } else if diskState & 0b0110 != 0b0110 || role >= superblock.memberCount {
                "it is a spare of its array"
            } else if state & 1 == 0 {  // MD_SB_CLEAN
                "its array was not cleanly stopped, or is not in sync"
            } else {
                nil
            }
        return superblock
    }

    private static func folded(_ sum: UInt32) -> UInt32 {
        let once = (sum & 0xFFFF) + (sum >> 16)
        return (once & 0xFFFF) + (once >> 16)
    }
}
