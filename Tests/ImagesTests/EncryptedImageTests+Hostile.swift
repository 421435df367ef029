// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

extension EncryptedImageTests {
    @Test func hostileHeadsAreRefused() throws {
        let written = try Self.write(try Self.seal())
        let slate = try Slate()
        let head = Array(written.bytes[written.parts[0]].dropLast(4))
        let rest = Array(written.bytes.dropFirst(head.count + 4))
        func rechecked(_ head: [UInt8]) -> [UInt8] {
            var bytes = head
            bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
            return bytes + rest
        }
        #expect(try slate.read(rechecked(head)).ending.id == written.id)
        var changed = head
        changed[8] = 2
        #expect(throws: ImageError.self) { try slate.read(rechecked(changed)) }
        changed[8] = 0
        #expect(throws: ImageError.self) { try slate.read(rechecked(changed)) }
        // No key; a length beyond the end; 65 keys.
        var none = Array(head.prefix(12))
        none.appendLittleEndian(UInt32(0))
        #expect(throws: ImageError.self) { try slate.read(rechecked(none)) }
        for count in [UInt32.max, 1 << 31, 1 << 20, UInt32(head.count), 3] {
            changed = head
            changed.setLittleEndian(count, at: 12)
            #expect(throws: ImageError.self) { try slate.read(rechecked(changed)) }
            changed = head
            changed.setLittleEndian(count, at: 16)
            #expect(throws: ImageError.self) { try slate.read(rechecked(changed)) }
        }
        var many = Array(head.prefix(12))
        let key = Array(head.dropFirst(16))
        many.appendLittleEndian(UInt32(key.count * 65))
        for _ in 0..<65 { many += key }
        #expect(throws: ImageError.self) { try slate.read(rechecked(many)) }

        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<500 {
            changed = head
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                changed[Int.random(in: 8..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Int.random(in: 0..<8, using: &random) == 0 {
                changed.removeLast(Int.random(in: 0..<changed.count, using: &random))
            }
            // The minor version may be larger; nothing else may differ.
            if zip(changed, head).enumerated().allSatisfy({
                $0.offset == 10 || $0.offset == 11 || $0.element.0 == $0.element.1
            }),
                changed.count == head.count
            {
                continue
            }
            #expect(throws: (any Error).self, "seed \(seed)") { try slate.read(rechecked(changed)) }
        }
    }

    /// A key file of the head with an excessive cost, and a valid checksum.
    @Test func anImageCannotAskForAllMemory() throws {
        let written = try Self.write(try Self.seal())
        let head = Array(written.bytes[written.parts[0]])
        let text = String(decoding: head[20..<head.count - 4], as: UTF8.self)
        let costly = try KeyStoreTests.rechecked(text) {
            $0 = $0.replacing("\"rounds\":16", with: "\"rounds\":1073741824")
        } line: {
            $0[3] = "1073741824 8 1"
        }
        var bytes = Array(head[..<12])
        bytes.appendLittleEndian(UInt32(costly.utf8.count + 4))
        bytes.appendLittleEndian(UInt32(costly.utf8.count))
        bytes += Array(costly.utf8)
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        let slate = try Slate()
        do {
            _ = try slate.read(bytes + written.bytes[head.count...])
            Issue.record("accepted")
        } catch {
            #expect("\(error)".contains("rounds"))
        }
    }
}
