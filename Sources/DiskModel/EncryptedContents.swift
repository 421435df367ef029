// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The content of a LUKS volume that was opened with its key, and how it is resized with its partition. Pure.
///
/// LUKS has no length of its own (a volume with one is never described by this): its sectors reach from the end of the
/// header to the end of the partition whenever it is opened. So only the content changes size.
package struct EncryptedContents: Sendable {
    package let inner: FilesystemInfo
    /// The length of the content in bytes.
    package let byteCount: UInt64
    /// The difference between the length of the partition and that of the content: the header
    /// and its key slots, in bytes.
    package let headerByteCount: UInt64
    /// The unit of the partition's end in bytes: an encrypted sector.
    private let unit: UInt64

    /// The content of an opened volume; `nil` for all others, and for a volume that keeps its
    /// size in a larger partition.
    package init?(_ filesystem: FilesystemInfo) {
        guard filesystem.kind == .luks, let length = filesystem.byteCount, let inner = filesystem.inner,
            inner.count == 1, let volume = inner.first, volume.byteCount > 0, volume.byteCount < length,
            let sectorSize = filesystem.sectorSize, sectorSize > 0
        else { return nil }
        self.inner = volume.filesystem
        byteCount = volume.byteCount
        headerByteCount = length - volume.byteCount
        unit = UInt64(sectorSize)
    }

    /// The room for the content in a partition of that length, in bytes; `nil` if not even the header fits.
    package func byteCount(in placeByteCount: UInt64) -> UInt64? {
        placeByteCount > headerByteCount ? placeByteCount - headerByteCount : nil
    }

    /// The least length of its partition in bytes; `nil` if the content cannot shrink.
    package var leastByteCount: UInt64? {
        guard shrinkObstacle == nil, let least = inner.leastByteCount else { return nil }
        let (sum, overflow) = least.addingReportingOverflow(headerByteCount)
        return overflow ? nil : sum.roundedUp(toMultipleOf: unit)
    }

    /// Why the content keeps its size in a larger partition, as a sentence part; `nil` if it can grow.
    package var growObstacle: String? { inner.resizeAbility.growObstacle ?? (fills ? nil : Self.notFilling) }

    private static let notFilling = "there may be data behind the end of the filesystem inside of LUKS"

    /// Why the content keeps its size in a smaller partition, as a sentence part.
    var shrinkObstacle: String? {
        // mkswap would recreate it; in practice no LUKS volume with a user's key contains only swap.
        let isTooDeep = inner.kind == .luks || inner.kind == .raid
        guard inner.traits.shrink != .madeAgain, !isTooDeep else {
            return "\(inner.kindName) inside of LUKS cannot be made smaller"
        }
        if let obstacle = inner.resizeAbility.shrinkObstacle { return "inside of LUKS, \(obstacle)" }
        return fills ? nil : Self.notFilling
    }

    /// Whether the content fills its room.
    private var fills: Bool { LayoutPlanner.fills(inner, 0..<byteCount) }
}

extension FilesystemInfo {
    /// This LVM physical volume, or the one inside this opened LUKS volume.
    package var physicalVolume: FilesystemInfo? {
        kind == .lvm ? self : EncryptedContents(self).flatMap { $0.inner.kind == .lvm ? $0.inner : nil }
    }
}
