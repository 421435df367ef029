// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// One on-disk format for containers of volumes, as a row of `VolumeIdentifier.containers`.
struct ContainerFormat: Sendable {
    /// The libblkid names (TYPE) covered by this reader.
    let kindNames: Set<String>
    /// The container and the places of its volumes; `nil` if the volume has other contents. Damage is no error:
    /// such a container is taken whole.
    let open: @Sendable (any BlockReader) throws(BlockIOError) -> Container?
}

/// A volume that contains other volumes.
struct Container: Sendable {
    /// Its description. With a `wholeReason`, everything in it counts as used.
    var filesystem: FilesystemInfo
    /// The ranges that are used whatever its volumes contain, in any order: labels, metadata, the extents of
    /// volumes that are not followed.
    var alwaysUsed: [ByteRange] = []
    /// The volumes in it, in its own order.
    var inner: [InnerPlace] = []
    /// The place of the encrypted sectors that its key can open; their content is not read yet.
    var locked: LUKSData?

    /// A container that is not opened.
    static func whole(_ filesystem: FilesystemInfo, because reason: String) -> Container {
        Container(filesystem: filesystem.takenWhole(because: reason))
    }

    /// Whether one of its volumes starts at the container's start: a filesystem detected there is the one inside, not
    /// a conflict (md 0.90 and 1.0).
    var startsWithInnerVolume: Bool {
        inner.contains { place in
            if case .segments(let segments) = place.contents { return segments.first?.place.lowerBound == 0 }
            return false
        }
    }
}

/// The place of a volume inside a container.
struct InnerPlace: Sendable {
    /// The readable part of the volume.
    enum Contents: Sendable {
        /// All of it, joined from these parts of the container: ascending and without gaps in the volume.
        case segments([VolumeSegment])
        /// It cannot be read; the reason is a sentence part.
        case closed(String)
    }

    var name: String
    var byteCount: UInt64
    var contents: Contents
    /// The reader of the volume where it shows more than the container's own bytes (an opened LUKS); its used bytes
    /// are still those of `contents`.
    var reader: (any BlockReader)?
    /// The source of a second opinion on the bytes of `reader`.
    var opinion: SecondOpinion?
    /// The smallest unit that can be read on its own: if a part of a unit is used, all of it is.
    var unit: UInt64 = 1
}

/// A part of a volume inside a container.
struct VolumeSegment: Equatable, Sendable {
    /// The start of the part in the volume, in bytes.
    var start: UInt64
    /// The place of the part in the container.
    var place: ByteRange
    /// The end of the part in the volume, in bytes.
    var end: UInt64 { start + place.byteCount }
}
