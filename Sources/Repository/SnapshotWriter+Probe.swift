// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel

extension SnapshotWriter {
    /// The records of the whole disk, before the snapshot is published: they are stored durably first.
    package func storedIndex() throws -> SnapshotIndex {
        let (manifest, statistics, regions) = try storedParts()
        let unpublished = Snapshot(
            info: SnapshotInfo(
                id: .init(of: []), host: "", disk: "", started: manifest.started, ended: "",
                usedByteCount: manifest.usedByteCount, addedByteCount: 0, tags: []),
            manifest: manifest, lateFacts: LateFacts(ended: ""), statistics: statistics, regions: regions)
        return try repository.index(unpublished)
    }
}
