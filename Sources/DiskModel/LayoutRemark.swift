// SPDX-License-Identifier: GPL-3.0-or-later

/// A remark on a layout. `RestoreWarning+Text` in Operations has the sentences.
package enum LayoutRemark: Equatable, Sendable {
    /// The table contradicts itself, and is restored unchanged; `reason` is half a sentence.
    case irregularTable(reason: String)
    /// The table leaves no space for a record, or exceeds what its fields can address: it is restored unchanged.
    case unusualTable
    /// The policy grows no partition, because none has contents that can grow.
    case nothingCanGrow(LayoutPolicy, freeByteCount: UInt64)
    /// The policy grows no partition; an explicit size gives the free space to this one.
    case nothingGrows(LayoutPolicy, freeByteCount: UInt64, partition: Int, holding: String)
    /// An MBR cannot address the end of the target; all in bytes.
    case endUnused(byteCount: UInt64, sectorSize: UInt64, reach: UInt64)
    /// A partition grows, and its contents do not.
    case contentKeepsSize(partition: Int, holding: String)
    /// The contents restored into an existing partition keep their size, and are that much shorter.
    case existingIsLarger(partition: Int, byteCount: UInt64)
    /// An existing partition keeps its type, which differs from the captured one.
    case typeStays(partition: Int, type: String, captured: String)

    /// The name in JSON. Never changed.
    package var code: String {
        switch self {
        case .irregularTable: "irregular-table"
        case .unusualTable: "unusual-table"
        case .nothingCanGrow: "nothing-can-grow"
        case .nothingGrows: "nothing-grows"
        case .endUnused: "end-unused"
        case .contentKeepsSize: "content-keeps-size"
        case .existingIsLarger: "existing-is-larger"
        case .typeStays: "type-stays"
        }
    }
}
