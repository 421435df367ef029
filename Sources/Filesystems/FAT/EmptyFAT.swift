// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A new FAT without files, for an EFI system partition. This only builds bytes: the caller writes them.
package struct EmptyFAT {
    package let layout: FATLayout
    /// The serial number, which `blkid` shows as `XXXX-XXXX`.
    package let serialNumber: UInt32
    private let hiddenSectors: UInt32

    /// The oldest name that all readers accept.
    private static let name = Array("MSWIN4.1".utf8)
    private static let label = Array("NO NAME    ".utf8)

    /// - Parameters:
    ///   - volumeByteCount: of its partition.
    ///   - sectorSize: of the disk, in bytes.
    ///   - hiddenSectors: the number of sectors before its partition.
    /// - Returns: `nil` if the partition is too small.
    package init?(volumeByteCount: UInt64, sectorSize: Int, serialNumber: UInt32, hiddenSectors: UInt32) {
        guard let layout = FATLayout(volumeByteCount: volumeByteCount, sectorSize: sectorSize, preferring: .fat32)
        else { return nil }
        self.layout = layout
        self.serialNumber = serialNumber
        self.hiddenSectors = hiddenSectors
    }

    /// Passes on all bytes of the new FAT, in whole sectors; bytes that it does not pass on do not matter. The boot
    /// sector comes last.
    /// - Parameters:
    ///   - write: takes bytes and their offset, in bytes of the volume.
    ///   - zero: zeroes a range of the volume.
    package func run(
        write: (_ bytes: [UInt8], _ offset: UInt64) throws -> Void, zero: (ByteRange) throws -> Void
    ) throws {
        let isFAT32 = layout.kind == .fat32
        var table = [UInt8](repeating: 0, count: Int(layout.sectorSize))
        switch layout.kind {
        case .fat32:
            // The media byte; an end mark with the bits for "cleanly unmounted" and "no errors"; the root folder.
            for (index, value) in [0x0FFF_FFF8, 0x0FFF_FFFF, 0x0FFF_FFFF].enumerated() {
                table.setLittleEndian(UInt32(value), at: 4 * index)
            }
        case .fat16:
            table.setLittleEndian(0xFFF8 as UInt16, at: 0)
            table.setLittleEndian(0xFFFF as UInt16, at: 2)
        default: table.replaceSubrange(0..<3, with: [0xF8, 0xFF, 0xFF])
        }
        for copy in 0..<2 as Range<UInt64> {
            let start = layout.fatOffset + copy * layout.fatByteCount
            try zero(start..<start + layout.fatByteCount)
            try write(table, start)
        }
        try zero(
            isFAT32
                ? layout.offset(ofCluster: 2)..<layout.offset(ofCluster: 3)
                : layout.rootOffset..<layout.rootOffset + layout.rootByteCount)
        let front = FATFront(
            layout: layout, name: Self.name, serialNumber: serialNumber, label: Self.label,
            hiddenSectors: hiddenSectors, rootCluster: 2, nextCluster: isFAT32 ? 3 : 2)
        try write(front.bytes(), 0)
    }
}
