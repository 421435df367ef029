// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// Finds contents in a repository and reads them. From one thread at a time.
final class BlobSource {
    private let repository: Repository
    private var indexes: IndexSet
    private let packs: PackCache
    private var decoders: [BlobKind: ChunkDecoder] = [:]
    private var fallback: PackTables?

    init(_ repository: Repository) throws(ImageError) {
        self.repository = repository
        indexes = try repository.indexSet()
        packs = PackCache(repository.store, repository.secrets)
    }

    /// A content's place, and the open pack.
    struct Found: Sendable {
        var pack: PackFile
        var location: BlobLocation
    }

    /// All places of a content whose packs can be opened, whole packs first. Empty if no index lists a place in a pack
    /// that exists.
    func places(_ id: ContentHash, _ kind: BlobKind) throws(ImageError) -> [Found] {
        let key = BlobKey(id, kind)
        var (locations, damage) = indexes.locations(key)
        let found = try open(locations)
        if !found.isEmpty { return found }
        // Packs are rewritten and indexes merged during a read: list the indexes again.
        let fresh = try repository.indexSet()
        if fresh.files.map(\.name) != indexes.files.map(\.name) {
            indexes = fresh
            (locations, damage) = indexes.locations(key)
            let found = try open(locations)
            if !found.isEmpty { return found }
        }
        guard let damage else { return [] }
        // An index is damaged: fall back to the tables in the packs.
        if fallback == nil {
            do { fallback = try PackTables(repository) } catch { throw damage }
        }
        return try open(fallback?.locations(key) ?? [])
    }

    /// The places whose packs can be opened. Places in a cut-off pack come last: their bytes may be missing.
    private func open(_ locations: [BlobLocation]) throws(ImageError) -> [Found] {
        var whole: [Found] = []
        var rest: [Found] = []
        var damage: ImageError?
        for (number, location) in locations.enumerated() where !locations[..<number].contains(location) {
            do {
                let found = Found(pack: try packs.pack(location.pack), location: location)
                if locations.count == 1 || found.pack.holds(location) && found.pack.isWhole {
                    whole.append(found)
                } else {
                    rest.append(found)
                }
            } catch {
                if !error.isMissingFile { damage = error }
            }
        }
        if whole.isEmpty, rest.isEmpty, let damage { throw damage }
        return whole + rest
    }

    /// Reads and checks a list or map piece of at most `limit` bytes. If a copy is damaged, reads the next one.
    func content(_ id: ContentHash, _ kind: BlobKind, limit: Int) throws(ImageError) -> [UInt8] {
        var first: ImageError?
        let places = try places(id, kind)
        for found in places {
            do {
                let content = try content(id, kind, at: found, limit: limit)
                if first != nil { repository.noteDamagedCopy(places[0], insteadUsing: found) }
                return content
            } catch { first = first ?? error }
        }
        throw first
            ?? .damaged(
                name: repository.name, what: "no pack has the content \(id)", fileOffset: 0, disk: nil,
                partition: nil)
    }

    private func content(
        _ id: ContentHash, _ kind: BlobKind, at found: Found, limit: Int
    ) throws(ImageError) -> [UInt8] {
        let location = found.location
        do {
            guard Int(location.contentByteCount) <= limit,
                Int(location.storedByteCount) <= ChunkCoding.bound(Int(location.contentByteCount))
            else { throw ParsingError.invalid(what: "the length of a content") }
            let decoder: ChunkDecoder
            if let known = decoders[kind] {
                decoder = known
            } else {
                decoder = try ChunkDecoder(repository.coding(level: 3, kind: kind))
                decoders[kind] = decoder
            }
            let stored = try found.pack.stored(location)
            var content = [UInt8](repeating: 0, count: Int(location.contentByteCount))
            let outcome = unsafe content.withUnsafeMutableBytes { content in
                unsafe stored.withUnsafeBytes { stored in
                    Result { () throws(CodecError) in unsafe try decoder.decode(stored, id: id, into: content) }
                }
            }
            try outcome.get()
            return content
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(
                name: found.pack.path, what: "\(error)", fileOffset: UInt64(location.offset), disk: nil, partition: nil)
        }
    }
}

/// The tables of all packs, in memory: the fallback for a damaged index, bounded by `largest`.
struct PackTables {
    private var places: [BlobKey: [BlobLocation]] = [:]
    /// About 150 MiB.
    private static let largest = 1_000_000

    init(_ repository: Repository) throws(ImageError) {
        var count = 0
        for name in try repository.store.packNames() {
            // An unreadable pack contributes nothing.
            guard let pack = try? PackFile(name, repository.store, repository.secrets),
                let table = try? pack.table()
            else { continue }
            count += table.count
            guard count <= Self.largest else {
                throw .damagedFile(
                    repository.store.source.name(ofAll: .index), "an index, and the packs are too many to replace it"
                )
            }
            for entry in table { places[entry.key, default: []].append(entry.location) }
        }
    }

    func locations(_ key: BlobKey) -> [BlobLocation] { places[key] ?? [] }
}
