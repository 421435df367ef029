// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The ledger: the snapshots that the repository had. Prune takes a snapshot for gone only where the ledger records that it
/// was forgotten, never because its object is not there.
struct SnapshotLedger {
    /// Published, by an empty object of its name.
    private var known: Set<ContentHash> = []
    /// Forgotten: the snapshot's own object, under another kind.
    private var forgotten: Set<ContentHash> = []
    private let store: StoreAccess

    /// Reads the ledger. To be read after the list of snapshots.
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
            // A repository from before the ledger.
            guard error.isMissingFile else { throw error }
            return []
        }
    }

    /// The snapshots that are not there and were not forgotten, sorted.
    /// - Parameter present: those that were there before the ledger was read.
    func missing(besides present: [ContentHash]) throws(ImageError) -> [ContentHash] {
        var result: [ContentHash] = []
        for id in known.subtracting(present).subtracting(forgotten) {
            // Published, or forgotten, while both were listed?
            if try store.contains(.snapshot(id)) { continue }
            if try store.contains(.retirement(id)) { continue }
            // Both, and pruned.
            if try !store.contains(.publication(id)) { continue }
            result.append(id)
        }
        return result.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// Whether a snapshot whose object went away has been forgotten since the list of snapshots: the ledger's own state now
    /// counts.
    func isForgotten(_ id: ContentHash) throws(ImageError) -> Bool {
        if try store.contains(.retirement(id)) { return true }
        // In a full store its entry goes in place of a record. One from before the ledger has none.
        guard known.contains(id) else { return false }
        return try !store.contains(.publication(id))
    }

    /// Records that these are there.
    func add(_ ids: [ContentHash]) throws(ImageError) {
        let fresh = ids.filter { !known.contains($0) }
        guard !fresh.isEmpty else { return }
        do throws(ImageError) {
            for id in fresh { try store.put(.publication(id), [], []) }
            try store.flush(.publication)
        } catch {
            // A full store must not prevent that room is made.
            guard error.isFull else { throw error }
        }
    }

    /// Records a snapshot that was just published.
    static func add(_ id: ContentHash, _ store: StoreAccess) {
        // The next prune records it where this cannot.
        guard let ledger = try? SnapshotLedger(store), (try? ledger.add([id])) != nil else { return }
        // Captured again: an older record does not count for it.
        try? store.remove(.retirement(id))
        // Forgotten by another process meanwhile, and perhaps settled.
        if (try? store.contains(.snapshot(id))) == false { try? store.remove(.publication(id)) }
    }

    /// Moves snapshots to the ledger: the record is there before the snapshot is not.
    static func forget(_ ids: [ContentHash], _ store: StoreAccess) throws(ImageError) {
        let prunable = try store.prunable()
        for id in ids {
            do throws(SystemCallError) {
                try prunable.retire(.snapshot(id), as: .retirement(id))
                // In two steps, a prune at work may have settled the record before the snapshot went.
                if !prunable.traits.retiresInOneStep, try !prunable.contains(.retirement(id)) {
                    try prunable.removeIfThere(.publication(id))
                }
            } catch {
                switch error.errno {
                case .noSuchFileOrDirectory: continue
                case .noSpace, .diskQuotaExceeded:
                    // In a full store: nothing says any more that it was ever there.
                    try? store.remove(.publication(id))
                    try store.remove(.snapshot(id))
                default: throw .system(error)
                }
            }
        }
        // From before the ledger: nothing was moved there.
        do { try store.flush(.retirement) } catch { if !error.isMissingFile { throw error } }
        try store.flush(.snapshot)
    }

    /// Ends the records of snapshots that are gone, at the end of a prune that has seen what is needed without them.
    /// - Parameter gone: those whose absence was confirmed.
    func settle(gone: [ContentHash]) throws(ImageError) {
        for id in forgotten.union(gone) {
            if try !store.contains(.snapshot(id)) { try store.remove(.publication(id)) }
            // Where it is there again, only the older record goes: and the entry, where it is forgotten just now.
            try store.remove(.retirement(id))
            if try !store.contains(.snapshot(id)) { try store.remove(.publication(id)) }
        }
    }
}
