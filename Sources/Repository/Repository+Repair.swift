// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

extension Repository {
    /// Reads everything, and takes what is damaged or lost out of the indexes: the next capture of a disk that still has
    /// it stores it anew, and all snapshots that need it are whole again. Nothing else is changed, and nothing removed.
    /// Indexes that are damaged are made anew from the packs.
    package func repair(
        waiting: Double = 0, note: (String) -> Void = { _ in }, progress: (VerifyProgress) -> Void = { _ in }
    ) throws(ImageError) -> RepairReport {
        let lock = try store.lock(.repair, waiting: waiting, note: note)
        defer { lock.release() }
        // The packs of a capture that is at work are in no index yet, and need none from us.
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
                "\(unreadCount) contents could not be read just now, which proves no damage: they were "
                    + "left in the indexes")
        }
        let present = Set(try store.packNames())
        let indexes = try indexSet()
        let lost = Set(indexes.files.flatMap(\.packs)).subtracting(present)
        let concerned = lost.union(damaged.keys.map(\.location.pack))
        guard !concerned.isEmpty else { return report }
        // A place of a damaged content can be in several indexes; lost ones are not told apart, as there may be millions.
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

    /// Writes the indexes that know any of these packs anew, without some of their entries.
    /// - Returns: the indexes that are to go now.
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
