// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import ObjectStore

/// `marks/PACK`: the pack is to go. Captures that begin later do not rely on it; readers still read it.
///
/// A mark need not survive a power cut: without it, the pack is just not marked yet.
struct PruneMark: Codable {
    /// The marks that were made at once share what `batch-UUID.json` says of them.
    var batch: GUID
}

/// `marks/batch-UUID.json`: written when all marks of the batch can be seen. A mark without is not complete: it protects
/// captures, but lets nothing go.
struct PruneBatch: Codable {
    var format: String
    var uuid: GUID
    /// When, by the clock of the store (RFC 3339 in UTC). The later of this and the file's modification time counts: a copy
    /// of the repository may have given the file any other.
    var marked: String
    /// The locks that were held when the marks could be seen, of those who may rely on what was marked before.
    var holders: [GUID]

    static let format = "reforge marks 1"
}

/// What `marks/` says.
struct PruneMarks {
    /// The batch of each marked pack; `nil` where a mark cannot be read.
    var packs: [StoreName: GUID?] = [:]
    /// The batches that are complete.
    var batches: [GUID: Batch] = [:]

    /// A complete batch.
    struct Batch {
        /// When its marks were made.
        var time: Int64
        var holders: Set<GUID>
    }

    init(packs: [StoreName: GUID?], batches: [GUID: Batch]) {
        self.packs = packs
        self.batches = batches
    }

    /// Reads all marks.
    init(_ store: StoreAccess) throws(ImageError) {
        for name in try store.names(.mark) {
            guard let pack = StoreName(name) else { continue }
            packs[pack] = .some(Self.decode(PruneMark.self, .mark(pack), store)?.batch)
        }
        for name in try store.names(.batch) {
            guard let uuid = GUID(name), let batch = Self.decode(PruneBatch.self, .batch(uuid), store),
                batch.format == PruneBatch.format, batch.uuid == uuid, uuid.description == name,
                let status = try store.status(.batch(uuid))
            else { continue }
            let modified = store.source.traits.keepsTime ? status.modified : nil
            // Without any time it is unknown since when its packs are unneeded: it is not complete.
            guard let time = [TimeText(batch.marked)?.unixSeconds, modified].compactMap({ $0 }).max() else { continue }
            batches[uuid] = Batch(time: time, holders: Set(batch.holders))
        }
    }

    private static func decode<Value: Decodable>(
        _ type: Value.Type, _ id: ObjectID, _ store: StoreAccess
    ) -> Value? {
        (try? store.source.read(id, limit: 1 << 20)).flatMap { try? JSONText.decode(type, $0) }
    }

    /// The complete batch of a pack's mark.
    func batch(of pack: StoreName) -> Batch? {
        guard case .some(.some(let uuid)) = packs[pack] else { return nil }
        return batches[uuid]
    }
}
