// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import ObjectStore

extension Pruner {
    /// Marks packs, then records the locks that are older than the marks.
    /// - Returns: the ids of these locks.
    func mark(
        _ names: [StoreName], _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> [GUID] {
        func holders() throws(ImageError) -> [GUID] {
            try RepositoryLock.held(
                in: store, besides: lock?.record?.uuid,
                now: lock?.keeperSeconds() ?? SystemFacts.unixSeconds(), removesStale: !dryRun
            )
            .filter { $0.record?.reliesOnContents ?? true }.map(\.uuid)
        }
        guard !dryRun, !names.isEmpty else { return try holders() }
        try confirm()
        let uuid = GUID.random()
        do {
            let bytes = try JSONText.encode(PruneMark(batch: uuid))
            // A mark lost in a power cut is made again. In a full store an empty mark suffices: captures use only its
            // name, and an unreadable batch is incomplete.
            for name in names { try store.put(.mark(name), bytes, .mayBeEmpty) }
            try reached(.marked)
            // A capture whose lock is not seen here sees the marks.
            let holders = try holders()
            let batch = PruneBatch(
                format: PruneBatch.format, uuid: uuid,
                marked: SystemFacts.utcText(lock?.keeperSeconds() ?? SystemFacts.unixSeconds()),
                holders: holders)
            try store.put(.batch(uuid), try JSONText.encode(batch, pretty: true), .mayBeEmpty)
            try reached(.batched)
            return holders
        } catch { throw .about(store.source.name(ofAll: .mark), error) }
    }
}
