// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import ObjectStore

/// `marks/PACK`: the pack is scheduled for removal. Later captures do not rely on it; readers still read it.
///
/// A mark need not survive a power cut: without it, the pack is unmarked and will be marked again.
struct PruneMark: Codable {
    /// The batch of marks made together; `batch-UUID.json` describes it.
    var batch: GUID
}

/// `marks/batch-UUID.json`: written once all marks of the batch are visible. A mark without its batch is incomplete:
/// captures respect it, but its pack is not removed.
struct PruneBatch: Codable {
    var format: String
    var uuid: GUID
    /// When the marks were made, by the store's clock (RFC 3339 in UTC). The later of this and the file's modification
    /// time counts: a copy of the repository may have given the file any other time.
    var marked: String
    /// The locks held once the marks were visible, of operations that may rely on contents from before the mark.
    var holders: [GUID]

    static let format = "reforge marks 1"
}

/// The contents of `marks/`.
struct PruneMarks {
    /// The batch of each marked pack; `nil` if a mark cannot be read.
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
            // Without a time the age of the marks is unknown: the batch is incomplete.
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
