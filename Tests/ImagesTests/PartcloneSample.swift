// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import DiskImages

/// A partclone image made by hand: every variant of the format, also those that no program at hand writes.
struct PartcloneSample {
    var blockSize = 512
    /// Which blocks are stored.
    var used: [Bool]
    /// 0 for the bits' bytes of the device behind the blocks.
    var extraBytes = 0
    var checksum: UInt16 = 0x20
    var blocksPerChecksum: UInt32 = 3
    var startsOver = true
    /// 1 bits, 8 bytes, 0 none.
    var bitmap: UInt8 = 1
    var filesystem = "EXTFS"
    var isBigEndian = false
    var seed: UInt64 = 1
    /// Replaces the first block.
    var bootSector: [UInt8]?

    static let random: PartcloneSample = {
        var random = SeededGenerator(seed: 11)
        return PartcloneSample(used: (0..<301).map { _ in random.next() % 3 != 0 })
    }()

    /// The content of the volume: zeros where no block is stored.
    var volume: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: used.count * blockSize + extraBytes)
        for (index, isUsed) in used.enumerated() where isUsed || bitmap == 0 {
            bytes.replaceSubrange(index * blockSize..<(index + 1) * blockSize, with: block(index))
        }
        return bytes
    }

    private func block(_ index: Int) -> [UInt8] {
        if index == 0, let bootSector { return bootSector + [UInt8](repeating: 0, count: blockSize - bootSector.count) }
        var random = SeededGenerator(seed: seed &+ UInt64(index) &* 977)
        return (0..<blockSize).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    /// The image, version 0002.
    var image: [UInt8] {
        var bytes = header(checksumByteCount: Self.byteCounts[checksum] ?? 0)
        bytes += bitmapBytes
        var digest: [UInt8] = []
        var count: UInt32 = 0
        for (index, isUsed) in used.enumerated() where isUsed || bitmap == 0 {
            let block = block(index)
            bytes += block
            guard checksum != 0 else { continue }
            // The one of version 0001 digests the first byte of each block, as often as the block is long.
            digest += checksum == 0xFF ? [UInt8](repeating: block[0], count: blockSize) : block
            count += 1
            guard count == blocksPerChecksum else { continue }
            bytes += value(digest)
            count = 0
            if startsOver { digest = [] }
        }
        return checksum != 0 && count > 0 ? bytes + value(digest) : bytes
    }

    private static let byteCounts: [UInt16: Int] = [0: 0, 0x20: 4, 0xFF: 4, 0x30: 8, 0x31: 16]

    private func value(_ digested: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        switch checksum {
        case 0x30: bytes.appendLittleEndian(XXHash64.hash(digested))
        case 0x31:
            let digest = XXHash3.hash(digested)
            bytes.appendLittleEndian(digest.low)
            bytes.appendLittleEndian(digest.high)
        default: bytes.appendLittleEndian(CRC32.iso.update(.max, digested))
        }
        return bytes
    }

    func header(checksumByteCount: Int) -> [UInt8] {
        var bytes = Array("partclone-image".utf8) + [0]
        bytes += Array("0.3.47".utf8) + [UInt8](repeating: 0, count: 8)
        bytes += Array("0002".utf8) + (isBigEndian ? [0xC0, 0xDE] : [0xDE, 0xC0])
        bytes += Array(filesystem.utf8) + [UInt8](repeating: 0, count: 16 - filesystem.utf8.count)
        bytes.appendLittleEndian(UInt64(used.count * blockSize + extraBytes))
        bytes.appendLittleEndian(UInt64(used.count))
        // Remarks, wrong in images that partclone makes.
        bytes.appendLittleEndian(UInt64(7))
        bytes.appendLittleEndian(UInt64(9))
        bytes.appendLittleEndian(UInt32(blockSize))
        bytes.appendLittleEndian(UInt32(18))
        bytes.appendLittleEndian(UInt16(2))
        bytes.appendLittleEndian(UInt16(64))
        bytes.appendLittleEndian(checksum)
        bytes.appendLittleEndian(UInt16(checksumByteCount))
        bytes.appendLittleEndian(blocksPerChecksum)
        bytes += [startsOver ? 1 : 0, bitmap]
        bytes.appendLittleEndian(CRC32.iso.update(.max, bytes))
        return bytes
    }

    private var bitmapBytes: [UInt8] {
        switch bitmap {
        case 1:
            var bits = [UInt8](repeating: 0, count: (used.count + 7) / 8)
            for (index, isUsed) in used.enumerated() where isUsed { bits[index / 8] |= 1 << UInt8(index % 8) }
            // Bits behind the last block do not count.
            if used.count % 8 != 0 { bits[bits.count - 1] |= 0x80 }
            var bytes = bits
            bytes.appendLittleEndian(CRC32.iso.update(.max, bits))
            return bytes
        // Other values than 1 mean "not there", and occur.
        case 8: return used.enumerated().map { $1 ? 1 : UInt8($0 % 2) * 3 } + Array("BiTmAgIc".utf8)
        default: return []
        }
    }

    /// The same volume as an image of version 0001.
    /// - Parameter width: the length of a stored checksum: 8 in images of old 64-bit builds.
    func firstVersion(width: Int = 4) -> [UInt8] {
        var bytes = Array("partclone-image".utf8)
        bytes += Array(filesystem.utf8) + [UInt8](repeating: 0, count: 15 - filesystem.utf8.count)
        bytes += Array("0001".utf8) + [0, 0]
        bytes.appendLittleEndian(UInt32(blockSize))
        for number in [UInt64(used.count * blockSize), UInt64(used.count), 5] { bytes.appendLittleEndian(number) }
        bytes += [UInt8](repeating: 0, count: 4160 - bytes.count)
        bytes += used.map { $0 ? 1 : 0 } + Array("BiTmAgIc".utf8)
        var crc: UInt32 = .max
        for (index, isUsed) in used.enumerated() where isUsed {
            let block = block(index)
            crc = CRC32.iso.update(crc, [UInt8](repeating: block[0], count: blockSize))
            bytes += block
            bytes.appendLittleEndian(crc)
            bytes += [UInt8](repeating: 0, count: width - 4)
        }
        return bytes
    }

    /// The volume that Reforge reads from an image, front to back in odd steps, to the confirmed end.
    static func read(_ path: FilePath, step: Int = 70_001) throws -> [UInt8] {
        guard case .foreign(let format) = try FileContents.detect(path) else { throw NotForeign() }
        let names = try format.disks(path)
        let contents = try ForeignContents(try format.open(path, names.first ?? ""), Cancellation())
        var bytes: [UInt8] = []
        while bytes.count < Int(contents.byteCount) {
            bytes += try contents.readBytes(
                at: UInt64(bytes.count), count: min(step, Int(contents.byteCount) - bytes.count))
        }
        try contents.confirmEnd()
        return bytes
    }

    struct NotForeign: Error {}
}
