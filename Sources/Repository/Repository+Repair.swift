// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

extension Repository {
    /// Reads everything, and removes damaged or missing contents from the indexes. The next capture of a disk that
    /// still has a content stores it again, which makes all snapshots that need it whole. Damaged indexes are rebuilt
    /// from the packs. Nothing else is changed or removed.
    package func repair(
        waiting: Double = 0, note: (String) -> Void = { _ in }, progress: (VerifyProgress) -> Void = { _ in }
    ) throws(ImageError) -> RepairReport {
        let lock = try store.lock(.repair, waiting: waiting, note: note)
        defer { lock.release() }
        // The packs of a running capture are in no index yet, and must not be indexed here.
        let others = try RepositoryLock.held(
            in: store, besides: lock.record?.uuid, now: lock.keeperSeconds() ?? SystemFacts.unixSeconds(),
            removesStale: true)
        let isBusy = others.contains { $0.mayWrite }
        let helper = Pruner(self, lock: lock, grace: .infinity, dryRun: false)
        var packs = try helper.listPacks()
        _ = try helper.adopt(&packs) { _ in isBusy }
        let verifier = RepositoryVerifier(self, only: nil)
        try verifier.run(percent: 100, seed: 0, progress)
        var report = RepairReport(
            found: verifier.report, adopted: helper.report.adopted, notes: helper.report.notes)
        let damaged = verifier.contents.damaged
        let unreadCount = verifier.contents.unread.count
        if unreadCount > 0 {
            report.notes.append(
                "\(unreadCount) contents could not be read, which proves no damage: they were "
                    + "left in the indexes")
        }
        let present = Set(try store.packNames())
        let indexes = try indexSet()
        let lost = Set(indexes.files.flatMap(\.packs)).subtracting(present)
        let concerned = lost.union(damaged.keys.map(\.location.pack))
        guard !concerned.isEmpty else { return report }
        // A place of a damaged content can be in several indexes, so they are collected in a set. Missing contents are
        // only counted, as there may be millions.
        var gone: Set<IndexEntry> = []
        let old = try writeIndexes(
            without: { entry in
                if damaged[entry] != nil {
                    gone.insert(entry)
                    return true
                }
                guard lost.contains(entry.location.pack) else { return false }
                report.quarantinedCount += 1
                return true
            }, of: concerned, helper.confirm)
        report.quarantinedCount += gone.count
        try removeIndexes(old)
        return report
    }

    /// Rewrites the indexes that list any of these packs, without some of their entries.
    /// - Returns: the replaced indexes, to be removed.
    func writeIndexes(
        without isGoing: (IndexEntry) -> Bool, of packs: Set<StoreName>, _ confirm: () throws(ImageError) -> Void
    ) throws(ImageError) -> [StoreName] {
        var old: [StoreName] = []
        for file in try indexSet().files where file.packs.contains(where: { packs.contains($0) }) {
            var cursor = IndexFile.Cursor(file)
            var writer: IndexWriter?
            while let hit = try cursor.next() {
                if isGoing(hit.entry) { continue }
                if writer == nil {
                    writer = try IndexWriter(store, secrets, expectedEntryCount: file.entryCount)
                }
                try writer?.add(hit.entry)
            }
            try confirm()
            _ = try writer?.finish()
            old.append(file.name)
        }
        return old
    }
}
