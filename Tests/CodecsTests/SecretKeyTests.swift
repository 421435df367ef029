// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Codecs

@Suite struct SecretKeyTests {
    static func bytes(_ hexadecimal: String) -> [UInt8] {
        let digits = Array(hexadecimal.filter { !$0.isWhitespace })
        return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0..<$0 + 2]), radix: 16) }
    }

    /// RFC 7914 §12. Its keys have 64 bytes, those of Reforge are the first 32 of them: scrypt ends in PBKDF2 (§6),
    /// which generates them in blocks of 32. (Its first vector has no password and no salt: Reforge uses neither.)
    @Test func scryptMatchesItsRFC() throws {
        let first = try SecretKey.derived(
            fromPassword: Array("password".utf8), salt: Array("NaCl".utf8), rounds: 1024, blockSize: 8, parallelism: 16)
        #expect(
            first.bytes == Self.bytes("fdbabe1c9d3472007856e7190d01e9fe 7c6ad7cbc8237830e77376634b373162"))
        let second = try SecretKey.derived(
            fromPassword: Array("pleaseletmein".utf8), salt: Array("SodiumChloride".utf8), rounds: 16_384, blockSize: 8,
            parallelism: 1)
        #expect(
            second.bytes == Self.bytes("7023bdcb3afd7348461c06cd81fd38eb fda8fbba904f8e3ea9b543f6545da1f2"))
    }

    @Test func scryptRefusesWhatItDoesNotTake() {
        for (rounds, blockSize) in [(1000, 8), (1, 8), (1 << 20, 1)] {
            #expect(throws: CodecError.self) {
                try SecretKey.derived(
                    fromPassword: [1], salt: [2], rounds: rounds, blockSize: blockSize, parallelism: 1)
            }
        }
    }

    /// HKDF-SHA-256 (RFC 5869 §2) with no salt, made of HMAC alone: the extracted key is HMAC(32 zeros, key), and one
    /// block of 32 bytes is HMAC(extracted, info and the byte 1).
    @Test func derivedKeysAreHKDF() throws {
        let key = try #require(SecretKey(bytes: Array(0..<32)))
        let zeros = try #require(SecretKey(bytes: [UInt8](repeating: 0, count: 32)))
        let extracted = try #require(SecretKey(bytes: ChunkIdentity.keyed(zeros).id(of: key.bytes).bytes))
        let expected = ChunkIdentity.keyed(extracted).id(of: Array("reforge purpose".utf8) + [1])
        #expect(key.derived(for: "purpose").bytes == expected.bytes)
        #expect(key.derived(for: "purpose").bytes != key.derived(for: "another").bytes)
    }

    /// HMAC-SHA-256: RFC 4231 has keys of other lengths, but §4.7's idea holds for any: this is its first case with the
    /// key filled up with zeros, which HMAC does by itself (RFC 2104 §2).
    @Test func keyedNamesAreHMAC() throws {
        let key = try #require(
            SecretKey(bytes: [UInt8](repeating: 0x0B, count: 20) + [UInt8](repeating: 0, count: 12)))
        #expect(
            ChunkIdentity.keyed(key).id(of: Array("Hi There".utf8)).bytes
                == Self.bytes("b0344c61d8db38535ca8afceaf0bf12b 881dc200c9833da726e9376c2e32cff7"))
        #expect(ChunkIdentity.plain.id(of: Array("abc".utf8)) == ContentHash(of: Array("abc".utf8)))
    }

    @Test func keysPrintAsNothing() {
        let key = SecretKey.random()
        for text in ["\(key)", String(reflecting: key), "\([key])", "\(Sealer(key: key))"] {
            #expect(!text.contains("\(key.bytes[0]), \(key.bytes[1])"))
            #expect(!text.contains(key.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()))
        }
        var dumped = ""
        dump(key, to: &dumped)
        #expect(dumped == "- a key\n")
        #expect(SecretKey(bytes: [1, 2, 3]) == nil)
        #expect(SecretKey.random().bytes != SecretKey.random().bytes)
    }
}
