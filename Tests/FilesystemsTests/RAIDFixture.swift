// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

@testable import Filesystems

/// Superblocks of md built by hand, after the kernel's `md_p.h`: mdadm makes none without an md driver in the kernel.
/// `mdadm --examine` checks them.
struct RAIDFixture {
    var version = "1.2"
    var byteCount: Int
    /// In bytes.
    var dataOffset = 1 << 20
    /// The length of the array on this member, in bytes.
    var length: Int
    var level: Int32 = 1
    var memberCount: UInt32 = 2
    var name = "host:root"
    static let uuid = Array(UInt8(1)...16)

    init(version: String, byteCount: Int, length: Int) {
        self.version = version
        self.byteCount = byteCount
        self.length = length
        if version == "1.0" || version == "0.90" { dataOffset = 0 }
    }

    var place: Int {
        switch version {
        case "0.90": byteCount / 65536 * 65536 - 65536
        case "1.0": (byteCount - 8192) / 4096 * 4096
        case "1.1": 0
        default: 4096
        }
    }

    /// The superblock, including its checksum.
    var superblock: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4096)
        bytes.setLittleEndian(0xA92B_4EFC as UInt32, at: 0)
        if version == "0.90" {
            func set(_ word: Int, _ value: UInt32) { bytes.setLittleEndian(value, at: 4 * word) }
            set(2, 90)
            set(5, 0x0102_0304)
            set(7, UInt32(bitPattern: level))
            set(8, UInt32(length / 1024))
            set(9, memberCount)
            set(10, memberCount)
            set(13, 0x0506_0708)
            set(14, 0x090A_0B0C)
            set(15, 0x0D0E_0F10)
            set(33, 1)
            for index in 34...35 { set(index, memberCount) }
            set(39, 21)
            for disk in [128, 128 + 32, 992] {
                set(disk, disk == 160 ? 1 : 0)
                set(disk + 1, 8)
                set(disk + 3, disk == 160 ? 1 : 0)
                set(disk + 4, 6)
            }
        } else {
            bytes.setLittleEndian(1 as UInt32, at: 4)
            bytes.replaceSubrange(16..<32, with: Self.uuid)
            bytes.replaceSubrange(32..<32 + name.utf8.count, with: Array(name.utf8))
            bytes.setLittleEndian(1_700_000_000 as UInt64, at: 64)
            bytes.setLittleEndian(level, at: 72)
            bytes.setLittleEndian(UInt64(length / 512), at: 80)
            bytes.setLittleEndian(memberCount, at: 92)
            bytes.setLittleEndian(UInt64(dataOffset / 512), at: 128)
            let end = version == "1.0" ? place : byteCount
            bytes.setLittleEndian(UInt64((end - dataOffset) / 512), at: 136)
            bytes.setLittleEndian(UInt64(place / 512), at: 144)
            bytes.setLittleEndian(1_700_000_000 as UInt64, at: 192)
            bytes.setLittleEndian(17 as UInt64, at: 200)
            bytes.setLittleEndian(UInt64.max, at: 208)
            bytes.setLittleEndian(128 as UInt32, at: 220)
            for index in 0..<128 {
                bytes.setLittleEndian(index < memberCount ? UInt16(index) : 0xFFFF, at: 256 + 2 * index)
            }
        }
        mend(&bytes)
        return bytes
    }

    /// Repairs the checksum.
    func mend(_ bytes: inout [UInt8]) {
        let field = version == "0.90" ? 4 * 38 : 216
        let roles = Int(clamping: (try? bytes.littleEndian(UInt32.self, at: 220)) ?? 0)
        let count = version == "0.90" ? 4096 : min(4096, 256 + 2 * min(roles, 1920))
        bytes.setLittleEndian(0 as UInt32, at: field)
        bytes.setLittleEndian((try? RAIDSuperblock.checksum(Array(bytes[..<count]))) ?? 0, at: field)
    }
}
