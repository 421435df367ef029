// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import ObjectStore

extension Pruner {
    /// The contents copied by this run: an old pack is unneeded once an index lists its copies.
    private struct Copies {
        /// The new pack being written.
        var output: PackWriter?
        /// The entries of complete new packs that no index lists yet.
        var entries: [IndexEntry] = []
        /// The copied packs whose copies no index lists yet.
        var copied: [PackUse] = []
        /// The copied packs that are unneeded now.
        var published: [StoreName] = []
    }

    /// Copies the needed contents of mostly unneeded packs to new packs, and verifies them while reading.
    /// - Returns: the packs that are unneeded now.
    func repack(_ packs: [PackUse], _ references: PruneReferences) throws(ImageError) -> [StoreName] {
        let check = ContentCheck(repository)
        var copies = Copies()
        for use in packs {
            if dryRun {
                copies.copied.append(use)
                continue
            }
            // Copy and original both exist for the grace time.
            if let free = try store.prunable().freeByteCount, free < use.neededByteCount * 2 + (64 << 20) {
                report.notes.append("packs that are mostly unneeded were not copied: there is too little space")
                break
            }
            do { try copyNeeded(use.name, &copies, references, check) } catch {
                // Damaged contents remain in place: verify attributes them.
                guard case .damaged = error else {
                    copies.output?.discard()
                    throw error
                }
                report.notes.append("a pack was not copied: \(error)")
                continue
            }
            copies.copied.append(use)
            if copies.entries.count >= Self.entriesAtOnce { try publish(&copies) }
        }
        try publish(&copies)
        return copies.published
    }

    /// Copies the needed contents of a pack.
    private func copyNeeded(
        _ name: StoreName, _ copies: inout Copies, _ references: PruneReferences, _ check: ContentCheck
    ) throws(ImageError) {
        let pack = try PackFile(name, store, repository.secrets)
        for entry in try pack.table() where try references.isNeeded(entry) {
            let stored = try check.stored(entry, in: pack)
            let target: PackWriter
            if let open = copies.output {
                target = open
            } else {
                target = try PackWriter(store, repository.secrets)
                copies.output = target
            }
            let outcome = unsafe stored.withUnsafeBytes { stored in
                Result { () throws(ImageError) in
                    unsafe try target.append(
                        entry.key, contentByteCount: Int(entry.location.contentByteCount), stored: stored)
                }
            }
            _ = try outcome.get()
            if target.isFull { try complete(&copies) }
        }
    }

    /// Completes the pack being written and gives it its final name.
    private func complete(_ copies: inout Copies) throws(ImageError) {
        guard let pack = copies.output else { return }
        copies.output = nil
        try pack.finish()
        try confirm()
        try pack.commit()
        copies.entries += pack.entries
    }

    /// Writes an index of the new packs, after which the old packs are unneeded.
    private func publish(_ copies: inout Copies) throws(ImageError) {
        try complete(&copies)
        if !copies.entries.isEmpty { _ = try writeIndex(copies.entries) }
        copies.entries = []
        for use in copies.copied {
            copies.published.append(use.name)
            report.repacked.add(use.byteCount)
            report.copiedByteCount += use.neededByteCount
        }
        copies.copied = []
    }
}
