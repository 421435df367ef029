// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Codecs

@Suite struct SealerTests {
    /// Test cases 13, 14 and 16 of the GCM specification (McGrew and Viega, which NIST SP 800-38D took over), as sealed
    /// bytes: nonce, ciphertext, tag.
    @Test func gcmMatchesThePublishedVectors() throws {
        let zeros = try #require(SecretKey(bytes: [UInt8](repeating: 0, count: 32)))
        let nonce = [UInt8](repeating: 0, count: 12)
        #expect(
            try Sealer(key: zeros).open(nonce + SecretKeyTests.bytes("530f8afbc74536b9a963b4f1c4cb738b"), context: [])
                == [])
        #expect(
            try Sealer(key: zeros).open(
                nonce + SecretKeyTests.bytes("cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919"),
                context: []) == [UInt8](repeating: 0, count: 16))
        let key = try #require(
            SecretKey(
                bytes: SecretKeyTests.bytes(
                    "feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308")))
        let plain = SecretKeyTests.bytes(
            """
            d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
            1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39
            """)
        let sealed = SecretKeyTests.bytes(
            """
            cafebabefacedbaddecaf888
            522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662
            76fc6ece0f4e1768cddf8853bb2d551b
            """)
        let context = SecretKeyTests.bytes("feedfacedeadbeeffeedfacedeadbeef abaddad2")
        #expect(try Sealer(key: key).open(sealed, context: context) == plain)
        #expect(throws: CodecError.self) { try Sealer(key: key).open(sealed, context: []) }
    }

    @Test(arguments: [0, 1, 15, 16, 17, 1000])
    func everyChangedBitIsSeen(byteCount: Int) throws {
        let sealer = Sealer(key: .random())
        let plain = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0) }
        let sealed = try sealer.seal(plain, context: [7])
        #expect(sealed.count == byteCount + Sealer.overheadByteCount)
        #expect(try sealer.open(sealed, context: [7]) == plain)
        #expect(try sealer.seal(plain, context: [7]) != sealed, "the same nonce twice")
        for bit in 0..<sealed.count * 8 where byteCount < 100 || bit % 7 == 0 {
            var damaged = sealed
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: CodecError.self) { try sealer.open(damaged, context: [7]) }
        }
        for count in 0..<min(sealed.count, 60) {
            #expect(throws: CodecError.self) { try sealer.open(Array(sealed.prefix(count)), context: [7]) }
        }
        #expect(throws: CodecError.self) { try sealer.open(sealed, context: [6]) }
        #expect(throws: CodecError.self) { try sealer.open(sealed, context: []) }
        #expect(throws: CodecError.self) { try Sealer(key: .random()).open(sealed, context: [7]) }
    }
}
