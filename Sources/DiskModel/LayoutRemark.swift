// SPDX-License-Identifier: GPL-3.0-or-later

/// Something that a person should know of a layout. Its words are made where it is shown.
package enum LayoutRemark: Equatable, Sendable {
    /// The table contradicts itself, and goes back as it was; the reason is half a sentence.
    case irregularTable(reason: String)
    /// The table leaves no room for a record, or reaches further than it can count: it goes back as it was.
    case unusualTable
    /// The policy makes no partition larger, for none holds what can follow.
    case nothingCanGrow(LayoutPolicy, freeByteCount: UInt64)
    /// The policy makes no partition larger; only a wish gives what is free to this one.
    case nothingGrows(LayoutPolicy, freeByteCount: UInt64, partition: Int, holding: String)
    /// An MBR does not reach the target's end; all in bytes.
    case endUnused(byteCount: UInt64, sectorSize: UInt64, reach: UInt64)
    /// A partition gets larger, and what it holds does not.
    case contentKeepsSize(partition: Int, holding: String)
    /// What goes into an existing partition keeps its size, and is that much shorter.
    case existingIsLarger(partition: Int, byteCount: UInt64)
    /// An existing partition keeps its type, and the captured one had another.
    case typeStays(partition: Int, type: String, captured: String)

    /// Its name for programs: stays as it is.
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
