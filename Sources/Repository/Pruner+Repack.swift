// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import ObjectStore

extension Pruner {
    /// Copies what is needed of packs that are mostly unneeded to new packs, and checks it on the way.
    /// - Returns: the packs that nothing is needed of any more.
    func repack(
        _ packs: [PackUse], _ references: PruneReferences, _ indexes: IndexSet
    ) throws(ImageError) -> [StoreName] {
        func wasted(_ use: PackUse) -> Double { 1 - Double(use.neededByteCount) / Double(max(1, use.knownByteCount)) }
        let candidates = packs.filter { $0.neededByteCount > 0 && wasted($0) >= Self.repackShare }
            .sorted { (wasted($0), $1.name) > (wasted($1), $0.name) }
        let check = ContentCheck(repository)
        var output: PackWriter?
        var entries: [IndexEntry] = []
        /// Copied, but not indexed yet.
        var copied: [PackUse] = []
        var result: [StoreName] = []
        func commit() throws(ImageError) {
            guard let pack = output else { return }
            output = nil
            try pack.finish()
            try confirm()
            try pack.commit()
            entries += pack.entries
        }
        func publish() throws(ImageError) {
            try commit()
            if !entries.isEmpty { _ = try writeIndex(entries) }
            entries = []
            for use in copied {
                result.append(use.name)
                report.repacked.add(use.byteCount)
                report.copiedByteCount += use.neededByteCount
            }
            copied = []
        }
        for use in candidates {
            if dryRun {
                copied.append(use)
                continue
            }
            // The copy and the original are both there for the grace time.
            if let free = try store.prunable().freeByteCount, free < use.neededByteCount * 2 + (64 << 20) {
                report.notes.append("packs that are mostly unneeded were not copied: there is too little space")
                break
            }
            do {
                let pack = try PackFile(use.name, store, repository.secrets)
                for entry in try pack.table() where try references.isNeeded(entry) {
                    let stored = try check.stored(entry, in: pack)
                    let target: PackWriter
                    if let open = output {
                        target = open
                    } else {
                        target = try PackWriter(store, repository.secrets)
                        output = target
                    }
                    let outcome = unsafe stored.withUnsafeBytes { stored in
                        Result { () throws(ImageError) in
                            unsafe try target.append(
                                entry.key, contentByteCount: Int(entry.location.contentByteCount), stored: stored)
                        }
                    }
                    _ = try outcome.get()
                    if target.isFull { try commit() }
                }
            } catch {
                // Damage stays where it is: verify says whose it is.
                guard case .damaged = error else {
                    output?.discard()
                    throw error
                }
                report.notes.append("a pack was not copied: \(error)")
                continue
            }
            copied.append(use)
            if entries.count >= Self.entriesAtOnce { try publish() }
        }
        try publish()
        return result
    }
}
