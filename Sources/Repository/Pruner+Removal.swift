// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import ObjectStore

extension Pruner {
    /// Keeps packs whose needed contents are not intact elsewhere: the chosen copies are read, as one may have rotted.
    /// Contents copied by this run were read during the copy.
    /// - Returns: the packs to remove; the others wait.
    func withoutOnlyCopies(_ going: [PackUse], _ references: PruneReferences) throws(ImageError) -> [PackUse] {
        guard !dryRun else { return going }
        let names = Set(going.filter { $0.hasCopies && !$0.isRepacked }.map(\.name))
        guard !names.isEmpty else { return going }
        let copied = Set(going.filter(\.isRepacked).map(\.name))
        /// A chosen copy, and the packs to be removed that have other copies.
        var doubts: [(chosen: IndexEntry, others: [StoreName])] = []
        var cursor = try references.indexes.mergedCursor()
        var ahead = try cursor.next()
        while let first = ahead {
            var chosen: IndexEntry?
            var others: [StoreName] = []
            while let hit = ahead, hit.hit.entry.key == first.hit.entry.key {
                let pack = hit.hit.entry.location.pack
                if references.isNeeded(hit) {
                    chosen = hit.hit.entry
                } else if names.contains(pack) {
                    others.append(pack)
                }
                ahead = try cursor.next()
            }
            guard let chosen, !others.isEmpty, !copied.contains(chosen.location.pack) else { continue }
            doubts.append((chosen, others))
        }
        // In the order of the medium.
        doubts.sort {
            let (a, b) = ($0.chosen.location, $1.chosen.location)
            return a.pack != b.pack ? a.pack < b.pack : a.offset < b.offset
        }
        let check = ContentCheck(repository)
        var pack: PackFile?
        var onlyCopies: [StoreName: Int] = [:]
        for doubt in doubts {
            if pack?.name != doubt.chosen.location.pack {
                pack = try? PackFile(doubt.chosen.location.pack, store, repository.secrets)
            }
            if let pack, (try? check.stored(doubt.chosen, in: pack)) != nil { continue }
            for name in Set(doubt.others) { onlyCopies[name, default: 0] += 1 }
        }
        for use in going {
            guard let count = onlyCopies[use.name] else { continue }
            report.waiting.add(use.byteCount)
            report.notes.append(
                "\(store.name(of: .pack(use.name))) stays: the copies to be kept of \(count) of its contents are "
                    + "damaged. reforge verify \(repository.name) --repair sets damaged copies aside")
        }
        return going.filter { onlyCopies[$0.name] == nil }
    }

    /// Removes packs from the indexes, then the packs, then their marks.
    func removePacks(
        _ names: [StoreName], marksOfMissing: [StoreName], _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) {
        guard !dryRun, !names.isEmpty || !marksOfMissing.isEmpty else { return }
        let going = Set(names).union(marksOfMissing)
        var isRemoved = false
        do { try removeFromIndexes(going, reached) } catch {
            // A full disk has no room for the new index. No operation relies on marked packs: they may be removed
            // first, if their marks remain until the indexes are written.
            guard error.isFull, !names.isEmpty else { throw error }
            try store.flush(.mark, names.map(\.description))
            try removeFiles(names)
            isRemoved = true
            try removeFromIndexes(going, reached)
        }
        if !isRemoved { try removeFiles(names) }
        try reached(.removed)
        for name in going { try store.remove(.mark(name)) }
        try reached(.unmarked)
    }

    private func removeFiles(_ names: [StoreName]) throws(ImageError) {
        for (number, name) in names.enumerated() {
            if number % 100 == 0 { try confirm() }
            try store.remove(.pack(name))
        }
    }

    /// Rewrites the indexes that list these packs, without them.
    private func removeFromIndexes(
        _ going: Set<StoreName>, _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) {
        let old = try repository.writeIndexes(without: { going.contains($0.location.pack) }, of: going, confirm)
        try reached(.indexed)
        try repository.removeIndexes(old)
        try reached(.unindexed)
    }

    /// Removes batches that no mark refers to, and files left by killed processes.
    func cleanUp() throws(ImageError) {
        if dryRun { return }
        report.temporaryByteCount = try store.sink().removeLeftovers()
        let marks = try PruneMarks(store)
        let used = Set(marks.packs.values.compactMap { $0 })
        for uuid in marks.batches.keys where !used.contains(uuid) {
            try store.remove(.batch(uuid))
        }
    }
}
