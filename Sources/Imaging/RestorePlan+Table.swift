// SPDX-License-Identifier: GPL-3.0-or-later
import DiskEditing
import DiskModel
import ImageModel

extension RestorePlan {
    /// Fails if the planned table cannot be made, so that this is found while planning, and not in the restore.
    /// - Throws: `ImagingError.refused` with the reason and the way out.
    package func checkTable(_ header: ImageHeader) throws(ImagingError) {
        do { _ = try makeTable(header.manifest) } catch {
            throw .refused("the partition table cannot be made for \(self.target.path): \(error)")
        }
    }

    /// The table that the commit writes, made on a stand-in; `nil` for a disk that gets none.
    func makeTable(_ manifest: Manifest) throws(TableEditError) -> CapturedTable? {
        guard let placements, only == nil else { return nil }
        let captured = CapturedTable(
            head: Array(manifest.tableHead), tail: Array(manifest.tableTail),
            records: (manifest.tableRecords ?? []).map { .init(offset: $0.offset, bytes: Array($0.bytes)) },
            byteCount: manifest.geometry.byteCount, sectorSize: manifest.geometry.logicalSectorSize)
        // No partition moves: the captured bytes are the table, including a hybrid MBR.
        if tableIsUnchanged { return captured }
        let places = Dictionary(placements.map { ($0.number, $0.to) }, uniquingKeysWith: { first, _ in first })
        if let conversion {
            return try TableEditor.convert(
                captured, table: manifest.table, conversion, to: geometry,
                partitions: places.filter { $0.key != conversion.added?.number })
        }
        return try TableEditor.relocate(
            captured, kind: manifest.table.kind, to: geometry, partitions: places)
    }
}
