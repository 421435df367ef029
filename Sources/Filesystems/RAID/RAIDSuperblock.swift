// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The superblock of a member of a Linux md array (kernel, `include/uapi/linux/raid/md_p.h`): version 1 as struct
/// mdp_superblock_1, version 0.90 as mdp_super_t.
struct RAIDSuperblock: Sendable {
    static let magic: UInt32 = 0xA92B_4EFC
    /// What is read of either; the longest list of roles ends with it.
    static let byteCount = 4096

    /// `0.90`, `1.0`, `1.1` or `1.2`.
    var version: String
    /// Where it lies.
    var place: ByteRange
    var uuid: [UInt8]
    var name: String
    var level: Int32
    var memberCount: UInt32
    /// Where the array's bytes lie on this member, as far as the array uses them.
    var data: ByteRange
    /// Where else something of md lies, beside the superblock: write-intent bitmap and bad-block list.
    var others: [UInt64] = []
    /// Why the array's bytes on this member cannot be relied on; `nil` where they can.
    var problem: String?

    /// Where superblocks of each version can lie on a volume.
    static func places(volumeByteCount: UInt64) -> [(version: String, offset: UInt64)] {
        var places: [(String, UInt64)] = []
        // MD_RESERVED_BYTES: 64 KiB at the end of what is a multiple of them.
        if volumeByteCount >= 128 << 10 {
            places.append(("0.90", volumeByteCount - volumeByteCount % (64 << 10) - (64 << 10)))
        }
        // super_1_load: 8 KiB or more, but less than 12, from the end; at the start; 4 KiB behind it.
        if volumeByteCount >= 64 << 10 { places.append(("1.0", volumeByteCount - volumeByteCount % 4096 - 8192)) }
        if volumeByteCount >= 64 << 10 { places += [("1.1", 0), ("1.2", 4096)] }
        return places
    }

    /// All superblocks that a volume holds: one of an earlier life may be left.
    static func find(_ volume: any BlockReader) throws(BlockIOError) -> [Result<RAIDSuperblock, ParsingError>] {
        var found: [Result<RAIDSuperblock, ParsingError>] = []
        for (version, offset) in places(volumeByteCount: volume.byteCount) {
            let head = try volume.readBytes(at: offset, count: 4)
            guard let magic = try? head.littleEndian(UInt32.self, at: 0),
                magic == Self.magic || magic.byteSwapped == Self.magic
            else { continue }
            let bytes = try volume.readBytes(at: offset, count: byteCount)
            // Version 1 stands at its own places only; another number there is chance, or version 0.90 of a smaller device.
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

    /// The sum of 32-bit words, carries added in (calc_sb_1_csum, calc_sb_csum); a last half word alone.
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
