// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// Adapts a captured partition table to another disk.
package enum TableEditor {
    /// The table of `captured` with its partitions at new places, for a disk of `geometry`.
    /// - Parameters:
    ///   - captured: a recognised table.
    ///   - partitions: the target of every partition, by number, in bytes. Partitions of the captured table that are
    ///     missing here are left out.
    /// - Returns: the bytes for the target. Types, identities, names and attributes are those of `captured`.
    package static func relocate(
        _ captured: CapturedTable, kind: PartitionTable.Kind, to geometry: DiskGeometry, partitions: [Int: ByteRange],
        workFolder: FilePath? = nil
    ) throws(TableEditError) -> CapturedTable {
        switch kind {
        case .gpt: try GPTEditor.relocate(captured, to: geometry, partitions: partitions, workFolder: workFolder)
        case .mbr: try MBREditor.relocate(captured, to: geometry, partitions: partitions)
        case .none, .unknown: throw TableEditError("the captured disk has no supported partition table")
        }
    }
}
