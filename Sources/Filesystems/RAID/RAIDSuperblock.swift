// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The superblock of a member of a Linux md array (kernel, `include/uapi/linux/raid/md_p.h`): version 1 as struct
/// mdp_superblock_1, version 0.90 as mdp_super_t.
struct RAIDSuperblock: Sendable {
    static let magic: UInt32 = 0xA92B_4EFC
    /// The bytes to read for either version; the longest list of roles ends with them.
    static let byteCount = 4096

    /// `0.90`, `1.0`, `1.1` or `1.2`.
    var version: String
    /// Its position.
    var place: ByteRange
    var uuid: [UInt8]
    var name: String
    var level: Int32
    var memberCount: UInt32
    /// The place of the array's bytes on this member, as far as the array uses them.
    var data: ByteRange
    /// Other areas of md besides the superblock: write-intent bitmap and bad-block list.
    var others: [UInt64] = []
    /// Why the array's bytes on this member cannot be relied on; `nil` if they can.
    var problem: String?

    /// The possible positions of superblocks of each version on a volume.
    static func places(volumeByteCount: UInt64) -> [(version: String, offset: UInt64)] {
        var places: [(String, UInt64)] = []
        // MD_RESERVED_BYTES: 64 KiB at the end, rounded down to a multiple.
        if volumeByteCount >= 128 << 10 {
            places.append(("0.90", volumeByteCount - volumeByteCount % (64 << 10) - (64 << 10)))
        }
        // super_1_load: at least 8 KiB, but less than 12, before the end; at the start; 4 KiB after it.
        if volumeByteCount >= 64 << 10 { places.append(("1.0", volumeByteCount - volumeByteCount % 4096 - 8192)) }
        if volumeByteCount >= 64 << 10 { places += [("1.1", 0), ("1.2", 4096)] }
        return places
    }

    /// All superblocks on a volume: one of an earlier array may be left.
    static func find(_ volume: any BlockReader) throws(BlockIOError) -> [Result<RAIDSuperblock, ParsingError>] {
        var found: [Result<RAIDSuperblock, ParsingError>] = []
        for (version, offset) in places(volumeByteCount: volume.byteCount) {
            let head = try volume.readBytes(at: offset, count: 4)
            guard let magic = try? head.littleEndian(UInt32.self, at: 0),
                magic == Self.magic || magic.byteSwapped == Self.magic
            else { continue }
            let bytes = try volume.readBytes(at: offset, count: byteCount)
            // Version 1 occurs only at its own positions; another number there is chance, or version
            // 0.90 of a smaller device.
            guard (try? bytes.littleEndian(UInt32.self, at: 4)) == (version == "0.90" ? 0 : 1) || magic != Self.magic
            else { continue }
            found.append(
                Result { () throws(ParsingError) in
                    guard magic == Self.magic else {
                        throw .invalid(what: "its md superblock, of a machine with another byte order,")
                    }
                    return version == "0.90" ? try version0(bytes, offset) : try version1(bytes, offset, version)
                })
        }
        return found
    }

    /// The sum of 32-bit words with carries added (calc_sb_1_csum, calc_sb_csum); a last half word counts alone.
    static func checksum(_ bytes: [UInt8]) throws(ParsingError) -> UInt32 {
        var sum: UInt64 = 0
        for offset in stride(from: 0, to: bytes.count - 3, by: 4) {
            sum += UInt64(try bytes.littleEndian(UInt32.self, at: offset))
        }
        if bytes.count % 4 == 2 { sum += UInt64(try bytes.littleEndian(UInt16.self, at: bytes.count - 2)) }
        return UInt32(truncatingIfNeeded: sum) &+ UInt32(truncatingIfNeeded: sum >> 32)
    }

    static func sectors(_ count: UInt64, _ what: String) throws(ParsingError) -> UInt64 {
        try count.multiplied(by: 512, what)
    }
}
