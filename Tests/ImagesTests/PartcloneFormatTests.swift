// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages

/// Images made by hand: every variant of partclone's format, and what must be refused.
@Suite struct PartcloneFormatTests {
    private func expectRead(_ image: [UInt8], _ volume: [UInt8], _ comment: Comment) throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        try Files.write(image, to: path)
        let padded = volume + [UInt8](repeating: 0, count: (512 - volume.count % 512) % 512)
        for step in [4096, 70_001, 1 << 20] {
            #expect(try PartcloneSample.read(path, step: step) == padded, comment)
        }
    }

    private func refusal(_ image: [UInt8]) throws -> String? {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        try Files.write(image, to: path)
        do {
            _ = try PartcloneSample.read(path)
            return nil
        } catch { return "\(error)" }
    }

    @Test(arguments: [0, 0x20, 0x30, 0x31, 0xFF] as [UInt16], [true, false])
    func everyChecksumIsVerified(_ checksum: UInt16, startsOver: Bool) throws {
        var sample = PartcloneSample.random
        (sample.checksum, sample.startsOver) = (checksum, startsOver)
        for (count, size) in [(1, 512), (3, 1024), (7, 4096), (1 << 20, 512)] as [(UInt32, Int)] {
            (sample.blocksPerChecksum, sample.blockSize) = (checksum == 0 ? 0 : count, size)
            try expectRead(sample.image, sample.volume, "checksum \(checksum), \(count) blocks of \(size)")
        }
        guard checksum != 0 else { return }
        // One flipped bit in any stored block is found. (The checksum of 0001 covers only a block's first byte.)
        sample.blocksPerChecksum = 5
        sample.blockSize = 512
        var image = sample.image
        let start = 110 + (sample.used.count + 7) / 8 + 4
        image[start] ^= 0x10
        #expect(try refusal(image)?.contains("checksum") == true)
    }

    @Test(arguments: [0, 1, 8] as [UInt8])
    func everyBitmapIsRead(_ bitmap: UInt8) throws {
        var sample = PartcloneSample.random
        sample.bitmap = bitmap
        try expectRead(sample.image, sample.volume, "bitmap \(bitmap)")
        sample.used = [Bool](repeating: false, count: 64)
        try expectRead(sample.image, sample.volume, "no block in use, bitmap \(bitmap)")
    }

    @Test func theFirstVersionIsRead() throws {
        let sample = PartcloneSample.random
        try expectRead(sample.firstVersion(), sample.volume, "version 0001")
        let why = try refusal(sample.firstVersion(width: 8))
        #expect(why?.contains("64-bit") == true, "\(why ?? "read")")
    }

    /// NTFS keeps a copy of its boot sector behind the last cluster, where partclone stores nothing.
    @Test func theBackupBootSectorOfNTFSIsPutBack() throws {
        var sample = PartcloneSample.random
        sample.used[0] = true
        sample.extraBytes = 512
        sample.filesystem = "NTFS"
        var boot: [UInt8] = [0xEB, 0x52, 0x90] + Array("NTFS    ".utf8)
        boot += [UInt8](repeating: 7, count: 512 - boot.count)
        boot.setLittleEndian(UInt16(512), at: 11)
        boot.setLittleEndian(UInt64(sample.used.count), at: 40)
        sample.bootSector = boot
        var volume = sample.volume
        volume.replaceSubrange(volume.count - 512..<volume.count, with: boot)
        try expectRead(sample.image, volume, "NTFS")
        // Version 0001 states only the length of the blocks.
        try expectRead(sample.firstVersion(), volume, "NTFS, version 0001")
        // A place inside of the blocks is not touched.
        boot.setLittleEndian(UInt64(3), at: 40)
        sample.bootSector = boot
        try expectRead(sample.image, sample.volume, "NTFS that ends early")
    }

    /// What is before damage is read rightly also after the damage was found, and nothing behind it.
    @Test func theBytesBeforeDamageAreRead() throws {
        // Behind the first 4 MiB, which are read beforehand.
        let size = 64 << 10
        var sample = PartcloneSample(blockSize: size, used: (0..<100).map { $0 < 8 || $0 >= 80 })
        sample.blocksPerChecksum = 8
        var image = sample.image
        // In block 90, of the third group.
        image[110 + 13 + 4 + 2 * (8 * size + 4) + 2 * size] ^= 1
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        try Files.write(image, to: path)
        let format = PartcloneFile.format
        let contents = try ForeignContents(try format.open(path, try format.disks(path)[0]), Cancellation())
        let volume = sample.volume
        func expectRead(_ block: Int) throws {
            let bytes = try contents.readBytes(at: UInt64(block * size), count: 512)
            #expect(bytes == Array(volume[block * size..<block * size + 512]), "block \(block)")
        }
        try expectRead(80)
        #expect(throws: BlockIOError.self) { try contents.readBytes(at: UInt64(90 * size), count: 512) }
        for block in [82, 87, 3] { try expectRead(block) }
        for block in [88, 96] {
            #expect(throws: BlockIOError.self) { try contents.readBytes(at: UInt64(block * size), count: 512) }
        }
    }

    @Test func anotherByteOrderIsNamed() throws {
        var sample = PartcloneSample.random
        sample.isBigEndian = true
        #expect(try refusal(sample.image)?.contains("big-endian") == true)
    }

    /// Each field of the header with values that must be refused, under a right checksum.
    @Test func hostileHeadersAreRefused() throws {
        let sample = PartcloneSample.random
        let lies: [(Int, [UInt8])] = [
            (84, [0, 0, 0, 0]), (84, [1, 0, 0, 4]), (84, [0xFF, 0xFF, 0xFF, 0xFF]),
            (60, [UInt8](repeating: 0xFF, count: 8)), (60, [0, 0, 0, 0, 0, 0, 0, 0]), (60, [0, 0, 0, 0, 0, 1, 0, 0]),
            (52, [1, 0, 0, 0, 0, 0, 0, 0]), (52, [UInt8](repeating: 0xFF, count: 8)), (88, [19, 0, 0, 0]),
            (92, [3, 0]), (96, [1, 0]), (96, [0x30, 0]), (98, [8, 0]), (98, [0, 0]), (100, [0, 0, 0, 0]),
            (105, [2]), (30, Array("0003".utf8)), (34, [0, 0]),
        ]
        for (offset, bytes) in lies {
            var image = sample.image
            image.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            image.setLittleEndian(CRC32.iso.update(.max, Array(image[..<106])), at: 106)
            #expect(try refusal(image) != nil, "\(bytes) at \(offset)")
        }
        var image = sample.image
        image[106] ^= 1
        #expect(try refusal(image)?.contains("header") == true)
    }

    @Test func anImageEndsBehindItsLastBlock() throws {
        let sample = PartcloneSample.random
        #expect(try refusal(sample.image + [0])?.contains("follow") == true)
        #expect(try refusal(sample.image.dropLast())?.contains("ends too early") == true)
        // In the header, the bitmap, and the first blocks.
        for count in 15..<min(600, sample.image.count) {
            #expect(try refusal(Array(sample.image[..<count])) != nil, "cut to \(count) bytes")
        }
    }

    private func refusal(_ image: ArraySlice<UInt8>) throws -> String? { try refusal(Array(image)) }

    /// Vectors of python-xxhash 3.4 over the bytes of a linear congruential generator.
    @Test func xxHash3OfKnownLengths() throws {
        for (count, low, high) in Self.vectors {
            var state: UInt64 = 1
            let bytes = (0..<count).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 56)
            }
            let expected = XXHash3.Digest(low: low, high: high)
            #expect(XXHash3.hash(bytes) == expected, "\(count) bytes")
            for step in [1, 63, 64, 65, 241, 1000] {
                var running = XXHash3()
                for start in stride(from: 0, to: count, by: step) {
                    bytes[start..<min(count, start + step)].withUnsafeBytes { running.update($0) }
                }
                #expect(running.digest == expected, "\(count) bytes in steps of \(step)")
            }
        }
    }

    private static let vectors: [(Int, UInt64, UInt64)] = [
        (0, 0x6001_C324_468D_497F, 0x99AA_06D3_0147_98D8),
        (1, 0xC00F_9D4F_580C_0C3A, 0xC89F_16E0_1381_DD11),
        (3, 0xE921_12D1_E602_AF4A, 0x0429_80E2_9FE0_7A72),
        (4, 0xF387_41E1_B9CC_FBD4, 0x9608_11BD_C2CB_9DC3),
        (8, 0x9AAC_4CD2_8C31_2A76, 0xFF5C_2408_8269_5F40),
        (9, 0x289D_4CD1_AF0C_84BD, 0x3AD2_00A3_6781_50CD),
        (16, 0x7290_7344_2C45_3EE7, 0x09BF_CF6D_0D0C_7508),
        (17, 0xD0B3_1235_D805_38AF, 0xC0E0_6F2F_6B37_9F4A),
        (32, 0x7A78_EB27_B3AE_F28B, 0x0BEE_74E0_E3EF_7423),
        (33, 0x0F2A_1F3D_6E78_0688, 0xF01A_5F39_12B2_4AAC),
        (64, 0xED9A_84B3_780F_C908, 0x7D7C_C02B_BB48_520E),
        (65, 0xAC9B_1CE6_36D9_15DA, 0x559E_598D_D20C_B466),
        (96, 0x23C4_ECC8_69A8_76AE, 0x14AD_FDDC_BD90_65A3),
        (97, 0x9722_92C2_BFEA_9946, 0x6689_1C04_492F_C201),
        (128, 0xC14E_F9BD_F292_6D91, 0xB0C9_7CF5_1FBD_420E),
        (129, 0x1C66_BB88_FB26_7529, 0x7767_2B5B_EABF_D29E),
        (160, 0x1F11_BF59_D5E3_A2C8, 0xDB8C_7991_735D_F886),
        (240, 0x0DFE_588C_76A0_D834, 0x05FB_8298_68E8_8D8B),
        (241, 0x2CB1_ED4A_30C8_BDED, 0x19F9_ED05_E799_3896),
        (256, 0x7FD9_7C64_50F1_9383, 0x1104_622B_3930_2212),
        (1024, 0x5EC1_11A1_E5A2_93AE, 0x92DA_9C0C_EBCC_106C),
        (1025, 0x5EA0_2645_28A9_03FC, 0x76C0_0571_248D_6978),
        (4097, 0x9DDE_0268_3BA4_8D0E, 0x7190_0F52_B5B8_6B57),
        (10000, 0x55B5_0192_C3F1_B288, 0x9D2E_6AAE_8A30_ECDB),
    ]
}
