// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem

/// Reads contents from packs and compares them with their ids. One instance per thread.
final class ContentCheck {
    private let repository: Repository
    private var decoders: [BlobKind: ChunkDecoder] = [:]
    private var content: [UInt8] = []

    init(_ repository: Repository) { self.repository = repository }

    /// Reads a content, unseals, decompresses and identifies it.
    /// - Returns: its stored bytes.
    func stored(_ entry: IndexEntry, in pack: PackFile) throws(ImageError) -> [UInt8] {
        let (key, location) = (entry.key, entry.location)
        let count = Int(location.contentByteCount)
        let limit = key.kind == .data ? repository.configuration.chunkByteCount : RepositoryFormat.largestPiece
        do {
            guard count <= limit, Int(location.storedByteCount) <= ChunkCoding.bound(count) else {
                throw ParsingError.invalid(what: "the length of a content")
            }
            let decoder: ChunkDecoder
            if let known = decoders[key.kind] {
                decoder = known
            } else {
                decoder = try ChunkDecoder(repository.coding(level: 3, kind: key.kind))
                decoders[key.kind] = decoder
            }
            let stored = try pack.stored(location)
            if content.count < count { content = [UInt8](repeating: 0, count: count) }
            let id = key.id
            let outcome = unsafe content.withUnsafeMutableBytes { content in
                unsafe stored.withUnsafeBytes { stored in
                    Result { () throws(CodecError) in
                        unsafe try decoder.decode(
                            stored, id: id, into: UnsafeMutableRawBufferPointer(rebasing: content[..<count]))
                    }
                }
            }
            try outcome.get()
            return stored
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(
                name: pack.path, what: "\(error)", fileOffset: UInt64(location.offset), disk: nil, partition: nil)
        }
    }
}
