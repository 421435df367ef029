// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import SystemPackage

/// `ledger/`: the snapshots that the repository had. Prune takes a snapshot for gone only where the ledger records that it
/// was forgotten, never because its file is not there.
struct SnapshotLedger {
    /// `ledger/ID`, an empty file: the snapshot was published.
    private var known: Set<ContentHash> = []
    /// `ledger/ID.forgotten`, the snapshot's own file: it was forgotten.
    private var forgotten: Set<ContentHash> = []
    private let layout: RepositoryLayout

    private static let suffix = ".forgotten"

    private static func entry(_ id: ContentHash, _ layout: RepositoryLayout) -> FilePath {
        layout.ledger.appending(id.description)
    }
    private static func forgottenEntry(_ id: ContentHash, _ layout: RepositoryLayout) -> FilePath {
        layout.ledger.appending("\(id)\(suffix)")
    }

    /// Reads the ledger. To be read after the list of snapshots.
    init(_ layout: RepositoryLayout) throws(ImageError) {
        self.layout = layout
        let names: [String]
        do { names = try Files.allNames(in: layout.ledger) } catch {
            // A repository from before the ledger.
            guard error.errno == .noSuchFileOrDirectory else { throw .system(error) }
            return
        }
        for name in names {
            let isForgotten = name.hasSuffix(Self.suffix)
            let text = isForgotten ? String(name.dropLast(Self.suffix.count)) : name
            guard let id = ContentHash(hexadecimal: text), id.description == text else { continue }
            if isForgotten { forgotten.insert(id) } else { known.insert(id) }
        }
    }

    /// The snapshots that are not there and were not forgotten, sorted.
    /// - Parameter present: those that were there before the ledger was read.
    func missing(besides present: [ContentHash]) throws(ImageError) -> [ContentHash] {
        var result: [ContentHash] = []
        for id in known.subtracting(present).subtracting(forgotten) {
            // Published, or forgotten, while both were listed?
            do {
                if try Files.status(layout.snapshot(id)) != nil { continue }
                if try Files.status(Self.forgottenEntry(id, layout)) != nil { continue }
                // Both, and pruned.
                if try Files.status(Self.entry(id, layout)) == nil { continue }
            } catch { throw .system(error) }
            result.append(id)
        }
        return result.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// Whether a snapshot whose file went away has been forgotten since the list of snapshots: the ledger's own state now counts.
    func isForgotten(_ id: ContentHash) throws(ImageError) -> Bool {
        do throws(SystemCallError) {
            if try Files.status(Self.forgottenEntry(id, layout)) != nil { return true }
            // On a full disk its entry goes in place of a record. One from before the ledger has none.
            guard known.contains(id) else { return false }
            return try Files.status(Self.entry(id, layout)) == nil
        } catch { throw .system(error) }
    }

    /// Records that these are there.
    func add(_ ids: [ContentHash]) throws(ImageError) {
        let fresh = ids.filter { !known.contains($0) }
        guard !fresh.isEmpty else { return }
        do {
            try Files.makeFolders(layout.ledger)
            for id in fresh {
                _ = try OwnedDescriptor.open(
                    Self.entry(id, layout), .writeOnly, options: [.create, .noFollow],
                    permissions: [.ownerReadWrite, .groupRead, .otherRead])
            }
            try Files.syncFolder(of: layout.ledger.appending("x"))
        } catch {
            // A full disk must not prevent that room is made.
            guard [.noSpace, .diskQuotaExceeded].contains(error.errno) else { throw .system(error) }
        }
    }

    /// Records a snapshot that was just published.
    static func add(_ id: ContentHash, _ layout: RepositoryLayout) {
        // The next prune records it where this cannot.
        guard let ledger = try? SnapshotLedger(layout), (try? ledger.add([id])) != nil else { return }
        // Captured again: an older record does not count for it.
        try? Files.remove(forgottenEntry(id, layout))
        // Forgotten by another process meanwhile, and perhaps settled.
        if !Files.exists(layout.snapshot(id)) { try? Files.remove(entry(id, layout)) }
    }

    /// Moves snapshots to the ledger: the record is there in the same instant in which the snapshot is not.
    static func forget(_ ids: [ContentHash], _ layout: RepositoryLayout) throws(ImageError) {
        do throws(SystemCallError) {
            try Files.makeFolders(layout.ledger)
            for id in ids {
                do throws(SystemCallError) {
                    try Files.rename(layout.snapshot(id), to: forgottenEntry(id, layout))
                } catch {
                    switch error.errno {
                    case .noSuchFileOrDirectory: continue
                    case .noSpace, .diskQuotaExceeded:
                        // On a full disk: nothing says any more that it was ever there.
                        try? Files.remove(entry(id, layout))
                        try Files.remove(layout.snapshot(id))
                    default: throw error
                    }
                }
            }
            try Files.syncFolder(of: layout.ledger.appending("x"))
            try Files.syncFolder(of: layout.snapshots.appending("x"))
        } catch { throw .system(error) }
    }

    /// Ends the records of snapshots that are gone, at the end of a prune that has seen what is needed without them.
    /// - Parameter gone: those whose absence was confirmed.
    func settle(gone: [ContentHash]) throws(ImageError) {
        do throws(SystemCallError) {
            for id in forgotten.union(gone) {
                if try Files.status(layout.snapshot(id)) == nil { try remove(Self.entry(id, layout)) }
                // Where it is there again, only the older record goes: and the entry, where it is forgotten just now.
                try remove(Self.forgottenEntry(id, layout))
                if try Files.status(layout.snapshot(id)) == nil { try remove(Self.entry(id, layout)) }
            }
        } catch { throw .system(error) }
    }

    private func remove(_ path: FilePath) throws(SystemCallError) {
        do { try Files.remove(path) } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
    }
}
