// SPDX-License-Identifier: GPL-3.0-or-later

/// What an entry of a folder of an exFAT is (Microsoft, "exFAT file system specification", §6.2.1 and §7), and where its
/// fields stand, in bytes of it.
package enum ExFATEntry {
    /// The length of an entry in bytes.
    package static let byteCount = 32
    /// EntryType of the allocation bitmap (§7.1), in use.
    package static let bitmap: UInt8 = 0x81
    /// Of the up-case table (§7.2).
    static let upCase: UInt8 = 0x82
    /// Of the volume's label (§7.3).
    static let label: UInt8 = 0x83
    /// BitmapFlags (§7.1.2): the lowest bit names the second FAT's.
    package static let bitmapFlagsOffset = 1
    /// FirstCluster.
    package static let firstClusterOffset = 20
    /// DataLength, in bytes.
    package static let dataLengthOffset = 24
}
