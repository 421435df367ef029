// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The ledger: the record of all snapshots the repository had. Prune treats a snapshot as gone only if the ledger
/// records that it was forgotten, never because its object is missing.
struct SnapshotLedger {
    /// Published snapshots: an empty object with the snapshot's name.
    private var known: Set<ContentHash> = []
    /// Forgotten snapshots: the snapshot's own object, under another kind.
    private var forgotten: Set<ContentHash> = []
    private let store: StoreAccess

    /// Reads the ledger. Call after listing the snapshots.
    init(_ store: StoreAccess) throws(ImageError) {
        self.store = store
        known = try Self.ids(.publication, store)
        forgotten = try Self.ids(.retirement, store)
    }

    private static func ids(_ kind: ObjectKind, _ store: StoreAccess) throws(ImageError) -> Set<ContentHash> {
        do {
            return Set(
                try store.names(kind).compactMap { name in
                    ContentHash(hexadecimal: name).flatMap { $0.description == name ? $0 : nil }
                })
        } catch {
            // The repository predates the ledger.
            guard error.isMissingFile else { throw error }
            return []
        }
    }

    /// The snapshots that are missing and were not forgotten, sorted.
    /// - Parameter present: the snapshots that existed before the ledger was read.
    func missing(besides present: [ContentHash]) throws(ImageError) -> [ContentHash] {
        var result: [ContentHash] = []
        for id in known.subtracting(present).subtracting(forgotten) {
            // Published or forgotten while both were listed.
            if try store.contains(.snapshot(id)) { continue }
            if try store.contains(.retirement(id)) { continue }
            // Published, forgotten and pruned meanwhile.
            if try !store.contains(.publication(id)) { continue }
            result.append(id)
        }
        return result.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// Whether a snapshot whose object disappeared since the listing has been forgotten: the current state of the
    /// ledger counts.
    func isForgotten(_ id: ContentHash) throws(ImageError) -> Bool {
        if try store.contains(.retirement(id)) { return true }
        // In a full store its entry is removed instead of a record being written. A snapshot from before the ledger has
        // no entry.
        guard known.contains(id) else { return false }
        return try !store.contains(.publication(id))
    }

    /// Records these snapshots as published.
    func add(_ ids: [ContentHash]) throws(ImageError) {
        let fresh = ids.filter { !known.contains($0) }
        guard !fresh.isEmpty else { return }
        do throws(ImageError) {
            for id in fresh { try store.put(.publication(id), [], []) }
            try store.flush(.publication)
        } catch {
            // A full store must not prevent freeing space.
            guard error.isFull else { throw error }
        }
    }

    /// Records a snapshot that was just published.
    static func add(_ id: ContentHash, _ store: StoreAccess) {
        // If this fails, the next prune records it.
        guard let ledger = try? SnapshotLedger(store), (try? ledger.add([id])) != nil else { return }
        // Captured again: an older record no longer applies.
        try? store.remove(.retirement(id))
        // Another process may have forgotten and settled it meanwhile.
        if (try? store.contains(.snapshot(id))) == false { try? store.remove(.publication(id)) }
    }

    /// Moves snapshots to the ledger: the record exists before the snapshot is removed.
    static func forget(_ ids: [ContentHash], _ store: StoreAccess) throws(ImageError) {
        let prunable = try store.prunable()
        for id in ids {
            do throws(SystemCallError) {
                try prunable.retire(.snapshot(id), as: .retirement(id))
                // With two steps, a running prune may have settled the record before the snapshot was removed.
                if !prunable.traits.retiresInOneStep, try !prunable.contains(.retirement(id)) {
                    try prunable.removeIfThere(.publication(id))
                }
            } catch {
                switch error.errno {
                case .noSuchFileOrDirectory: continue
                case .noSpace, .diskQuotaExceeded:
                    // In a full store: remove the publication record, so that the snapshot does not count as missing.
                    try? store.remove(.publication(id))
                    try store.remove(.snapshot(id))
                default: throw .system(error)
                }
            }
        }
        // The repository predates the ledger: nothing was moved there.
        do { try store.flush(.retirement) } catch { if !error.isMissingFile { throw error } }
        try store.flush(.snapshot)
    }

    /// Removes the records of removed snapshots, at the end of a prune that computed the needed contents without them.
    /// - Parameter gone: the snapshots whose absence was confirmed.
    func settle(gone: [ContentHash]) throws(ImageError) {
        for id in forgotten.union(gone) {
            if try !store.contains(.snapshot(id)) { try store.remove(.publication(id)) }
            // If the snapshot exists again, only the older record is removed; if it is being forgotten just now, its
            // entry too.
            try store.remove(.retirement(id))
            if try !store.contains(.snapshot(id)) { try store.remove(.publication(id)) }
        }
    }
}
