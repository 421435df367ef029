// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// Makes a captured partition table fit another disk.
package enum TableEditor {
    /// The table of `captured` with its partitions at new places, for a disk of `geometry`.
    /// - Parameters:
    ///   - captured: a table that was understood.
    ///   - partitions: where every partition goes, by number, in bytes. One of the captured table that is not named here is left
    ///     out.
    /// - Returns: the bytes for the target. Types, identities, names and attributes are those of `captured`.
    package static func relocate(
        _ captured: CapturedTable, kind: PartitionTable.Kind, to geometry: DiskGeometry, partitions: [Int: ByteRange],
        workFolder: FilePath? = nil
    ) throws(TableEditError) -> CapturedTable {
        switch kind {
        case .gpt: try GPTEditor.relocate(captured, to: geometry, partitions: partitions, workFolder: workFolder)
        case .mbr: try MBREditor.relocate(captured, to: geometry, partitions: partitions)
        case .none, .unknown: throw TableEditError("the captured disk has no partition table that is understood")
        }
    }
}
