// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// What lies inside of a LUKS volume that was looked into with its key, and how it follows the length of its place. Pure.
///
/// LUKS has no length of its own (what has one is never described by this): its sectors reach from the end of the header
/// to the end of the place, whenever it is opened. So a change of size is only one of what is inside.
package struct EncryptedContents: Sendable {
    /// What it holds.
    package let inner: FilesystemInfo
    /// Its length inside, in bytes.
    package let byteCount: UInt64
    /// How much longer the place is than what is inside: the header and its key slots, in bytes.
    package let headerByteCount: UInt64
    /// The unit in which the place ends, in bytes: an encrypted sector.
    private let unit: UInt64

    /// What is known of an opened volume; `nil` of everything else, and of what keeps its size in a larger place.
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

    /// How much room there is inside of a place of that length, in bytes; `nil` where it has not even room for the header.
    package func byteCount(in placeByteCount: UInt64) -> UInt64? {
        placeByteCount > headerByteCount ? placeByteCount - headerByteCount : nil
    }

    /// The least length of a place for it, in bytes; `nil` where what is inside does not become smaller.
    package var leastByteCount: UInt64? {
        guard shrinkObstacle == nil, let least = inner.leastByteCount else { return nil }
        let (sum, overflow) = least.addingReportingOverflow(headerByteCount)
        return overflow ? nil : sum.roundedUp(toMultipleOf: unit)
    }

    /// Why what is inside keeps its size in a larger place, as a sentence part; `nil` where it can follow.
    package var growObstacle: String? { inner.resizeAbility.growObstacle ?? (fills ? nil : Self.notFilling) }

    private static let notFilling = "something may stand behind the end of what is inside of LUKS"

    /// Why what is inside keeps its size in a smaller place, as a sentence part.
    var shrinkObstacle: String? {
        // mkswap would make swap again; nobody keeps it alone behind a key that can be given.
        let isTooDeep = inner.kind == .luks || inner.kind == .raid
        guard inner.traits.shrink != .madeAgain, !isTooDeep else {
            return "\(inner.kindName) inside of LUKS is not made smaller"
        }
        if let obstacle = inner.resizeAbility.shrinkObstacle { return "inside of LUKS, \(obstacle)" }
        return fills ? nil : Self.notFilling
    }

    /// Whether what is inside takes all of its room.
    private var fills: Bool { LayoutPlanner.fills(inner, 0..<byteCount) }
}

extension FilesystemInfo {
    /// The physical volume of LVM that this is, or that an opened LUKS volume holds.
    package var physicalVolume: FilesystemInfo? {
        kind == .lvm ? self : EncryptedContents(self).flatMap { $0.inner.kind == .lvm ? $0.inner : nil }
    }
}
