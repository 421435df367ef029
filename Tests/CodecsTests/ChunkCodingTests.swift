// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Codecs

@Suite struct ChunkCodingTests {
    private static let content = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 / 300) }

    private func encode(_ coding: ChunkCoding, _ content: [UInt8], id: ContentHash) throws -> [UInt8] {
        var target = [UInt8](repeating: 0, count: ChunkCoding.bound(content.count))
        let encoder = try ChunkEncoder(coding)
        let count = try target.withUnsafeMutableBytes { target in
            try content.withUnsafeBytes { try encoder.encode($0, id: id, into: target) }
        }
        return Array(target.prefix(count))
    }

    private func decode(_ coding: ChunkCoding, _ stored: [UInt8], id: ContentHash?, count: Int) throws -> [UInt8] {
        var target = [UInt8](repeating: 0, count: count)
        let decoder = try ChunkDecoder(coding)
        try target.withUnsafeMutableBytes { target in
            try stored.withUnsafeBytes { try decoder.decode($0, id: id, into: target) }
        }
        return target
    }

    @Test func everyCodingRoundTrips() throws {
        for codec in [ChunkCoding.Codec.zstd(level: 3), .stored] {
            for identity in [ChunkIdentity.plain, .keyed(.random())] {
                for sealer in [nil, Sealer(key: .random())] {
                    let coding = ChunkCoding(codec: codec, identity: identity, sealer: sealer, sealContext: [1, 2])
                    let id = identity.id(of: Self.content)
                    let stored = try encode(coding, Self.content, id: id)
                    #expect(try decode(coding, stored, id: id, count: Self.content.count) == Self.content)
                    for count in [0, 1, Self.content.count - 1, Self.content.count + 1] {
                        #expect(throws: CodecError.self) { try decode(coding, stored, id: id, count: count) }
                    }
                    // Content that does not match its name, although everything else fits.
                    let other = identity.id(of: [1])
                    #expect(throws: CodecError.self) {
                        try decode(coding, try encode(coding, Self.content, id: other), id: other, count: 70_000)
                    }
                }
            }
        }
    }

    @Test func sealedChunksGiveNothingAwayAndCannotBeSwapped() throws {
        let key = SecretKey.random()
        let coding = ChunkCoding(codec: .stored, sealer: Sealer(key: key), sealContext: Array("format A".utf8))
        let id = ChunkIdentity.plain.id(of: Self.content)
        let stored = try encode(coding, Self.content, id: id)
        let known = Array(Self.content[30_000..<30_016])
        #expect(!stored.indices.dropLast(16).contains { Array(stored[$0..<$0 + 16]) == known })
        // Another name, another format, another key, no name: each is refused.
        let other = ChunkIdentity.plain.id(of: [1])
        #expect(throws: CodecError.self) { try decode(coding, stored, id: other, count: 70_000) }
        #expect(throws: CodecError.self) { try decode(coding, stored, id: nil, count: 70_000) }
        var foreign = coding
        foreign.sealContext = Array("format B".utf8)
        #expect(throws: CodecError.self) { try decode(foreign, stored, id: id, count: 70_000) }
        foreign = coding
        foreign.sealer = Sealer(key: .random())
        #expect(throws: CodecError.self) { try decode(foreign, stored, id: id, count: 70_000) }
        foreign.sealer = nil
        #expect(throws: CodecError.self) { try decode(foreign, stored, id: id, count: 70_000) }
    }
}
