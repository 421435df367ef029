// SPDX-License-Identifier: GPL-3.0-or-later

/// The naming, compression and sealing of chunks. Each thread creates its own coder from it.
package struct ChunkCoding: Sendable {
    /// How contents are compressed.
    package enum Codec: Equatable, Sendable {
        /// One zstd frame (RFC 8878) of this level, with its length and a checksum.
        case zstd(level: Int)
        /// One block of an .xz file (xz 1.2.0, section 3) at this preset.
        case xz(level: Int)
        /// Uncompressed: a raw image of another program.
        case stored
    }
    /// The compression of contents. A decoder ignores the level.
    package var codec: Codec
    /// The naming of contents.
    package var identity: ChunkIdentity
    /// The sealer of compressed contents; `nil` without encryption.
    package var sealer: Sealer?
    /// The owner of sealed contents: put before a chunk's id in the context of its seal.
    package var sealContext: [UInt8]

    /// Whether contents are encrypted.
    package var isEncrypted: Bool { sealer != nil }

    package init(
        codec: Codec, identity: ChunkIdentity = .plain, sealer: Sealer? = nil, sealContext: [UInt8] = []
    ) {
        self.codec = codec
        self.identity = identity
        self.sealer = sealer
        self.sealContext = sealContext
    }

    /// The upper bound on the stored length of `byteCount` bytes of content, for every coding.
    package static func bound(_ byteCount: Int) -> Int {
        // liblzma's bound (lzma_block_buffer_bound) is larger than zstd's by its headers: 2 KiB cover them.
        max(ZstdCompressor.bound(byteCount), byteCount + byteCount / 2048 + 2048) + Sealer.overheadByteCount
    }
}

/// Encodes contents for storage. One per thread.
package final class ChunkEncoder {
    private let coding: ChunkCoding
    private let zstd: ZstdCompressor?
    /// Compressed bytes before sealing.
    private var scratch: [UInt8] = []

    package init(_ coding: ChunkCoding) throws(CodecError) {
        self.coding = coding
        if case .zstd(let level) = coding.codec { zstd = try ZstdCompressor(level: level) } else { zstd = nil }
    }

    /// Compresses the content, and seals it if the coding has a sealer.
    /// - Parameters:
    ///   - id: the name of the content under the coding's identity.
    ///   - target: has room for `ChunkCoding.bound` bytes.
    /// - Returns: how many bytes of `target` were filled.
    package func encode(
        _ content: UnsafeRawBufferPointer, id: ContentHash, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        guard let sealer = coding.sealer else { return try compress(content, into: target) }
        let bound = ChunkCoding.bound(content.count)
        if scratch.count < bound { scratch = [UInt8](repeating: 0, count: bound) }
        let context = coding.sealContext + id.bytes
        let result = scratch.withUnsafeMutableBytes { scratch in
            Result { () throws(CodecError) in
                let count = try compress(content, into: scratch)
                return try sealer.seal(
                    UnsafeRawBufferPointer(rebasing: scratch[..<count]), into: target, context: context)
            }
        }
        return try result.get()
    }

    private func compress(
        _ content: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        switch coding.codec {
        case .zstd:
            guard let zstd else { throw CodecError("no compressor") }
            return try zstd.compress(content, into: target)
        case .xz(let level): return try XZBlock.compress(content, level: level, into: target)
        case .stored:
            guard content.count <= target.count else { throw CodecError("no room for a chunk") }
            target.copyMemory(from: content)
            return content.count
        }
    }
}

/// Decodes stored contents. One per thread.
package final class ChunkDecoder {
    private let coding: ChunkCoding
    private let zstd: ZstdDecompressor?
    private var scratch: [UInt8] = []

    package init(_ coding: ChunkCoding) throws(CodecError) {
        self.coding = coding
        if case .zstd = coding.codec { zstd = try ZstdDecompressor() } else { zstd = nil }
    }

    /// Opens the seal if there is one, decompresses, and compares the content with its name.
    /// - Parameters:
    ///   - id: the expected name of the content; `nil` if it is unknown (a raw image).
    ///   - content: the target, which the content must fill completely.
    /// - Throws: `CodecError`, a sentence part about the chunk, for any mismatch.
    package func decode(
        _ stored: UnsafeRawBufferPointer, id: ContentHash?, into content: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        if let sealer = coding.sealer {
            guard stored.count >= Sealer.overheadByteCount else { throw CodecError("a chunk is cut off") }
            let bound = stored.count - Sealer.overheadByteCount
            if scratch.count < bound { scratch = [UInt8](repeating: 0, count: bound) }
            let context = coding.sealContext + (id?.bytes ?? [])
            let result = scratch.withUnsafeMutableBytes { scratch in
                Result { () throws(CodecError) in
                    let count = try sealer.open(stored, into: scratch, context: context)
                    try decompress(UnsafeRawBufferPointer(rebasing: scratch[..<count]), into: content)
                }
            }
            try result.get()
        } else {
            try decompress(stored, into: content)
        }
        if let id, coding.identity.id(of: UnsafeRawBufferPointer(content)) != id {
            throw CodecError("a chunk does not match its checksum")
        }
    }

    private func decompress(
        _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let count: Int
        switch coding.codec {
        case .zstd:
            guard let zstd else { throw CodecError("no decompressor") }
            do { count = try zstd.decompress(stored, into: content) } catch {
                throw CodecError("a chunk does not decompress (\(error))")
            }
        case .xz:
            do { count = try XZBlock.decompress(stored, into: content) } catch {
                throw CodecError("a chunk does not decompress (\(error))")
            }
        case .stored:
            count = min(stored.count, content.count)
            content.copyMemory(from: UnsafeRawBufferPointer(rebasing: stored[..<count]))
        }
        guard count == content.count else {
            throw CodecError("a chunk has \(count) bytes instead of \(content.count)")
        }
    }
}
