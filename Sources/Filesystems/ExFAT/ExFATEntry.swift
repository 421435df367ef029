// SPDX-License-Identifier: GPL-3.0-or-later

/// The types of exFAT folder entries (Microsoft, "exFAT file system specification", §6.2.1 and §7), and the offsets of
/// their fields in bytes.
package enum ExFATEntry {
    /// The length of an entry in bytes.
    package static let byteCount = 32
    /// EntryType of the allocation bitmap (§7.1), in use.
    package static let bitmap: UInt8 = 0x81
    /// EntryType of the up-case table (§7.2).
    static let upCase: UInt8 = 0x82
    /// EntryType of the volume label (§7.3).
    static let label: UInt8 = 0x83
    /// BitmapFlags (§7.1.2): the lowest bit is set for the bitmap of the second FAT.
    package static let bitmapFlagsOffset = 1
    /// FirstCluster.
    package static let firstClusterOffset = 20
    /// DataLength, in bytes.
    package static let dataLengthOffset = 24
}
