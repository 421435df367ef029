// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// One on-disk format that holds volumes, as a row of `VolumeIdentifier.containers`.
struct ContainerFormat: Sendable {
    /// libblkid's names (TYPE) of everything that this reader speaks for.
    let kindNames: Set<String>
    /// What the container is and where the volumes in it lie; `nil` where the volume holds something else. Damage is no
    /// error: such a container is taken whole.
    let open: @Sendable (any BlockReader) throws(BlockIOError) -> Container?
}

/// A volume that holds other volumes.
struct Container: Sendable {
    /// What it is. With a `wholeReason`, everything in it counts as used.
    var filesystem: FilesystemInfo
    /// What of it is in use whatever its volumes hold, in any order: labels, metadata, the extents of volumes that are
    /// not followed.
    var alwaysUsed: [ByteRange] = []
    /// The volumes in it, in its own order.
    var inner: [InnerPlace] = []
    /// Where the sectors of an encrypted one lie that its key can open; what is inside is not seen yet.
    var locked: LUKSData?

    /// A container that is not looked into.
    static func whole(_ filesystem: FilesystemInfo, because reason: String) -> Container {
        Container(filesystem: filesystem.takenWhole(because: reason))
    }

    /// Whether one of its volumes starts where the container starts: a filesystem seen there is the one inside, not a
    /// rival (md 0.90 and 1.0).
    var startsWithInnerVolume: Bool {
        inner.contains { place in
            if case .segments(let segments) = place.contents { return segments.first?.place.lowerBound == 0 }
            return false
        }
    }
}

/// Where a volume inside a container lies.
struct InnerPlace: Sendable {
    /// What can be seen of it.
    enum Contents: Sendable {
        /// All of it, joined from these parts of the container: ascending and without gaps in the volume.
        case segments([VolumeSegment])
        /// It cannot be looked into; why, as a sentence part.
        case closed(String)
    }

    var name: String
    var byteCount: UInt64
    var contents: Contents
    /// What reads the volume where that is more than the container's own bytes (an opened LUKS); its bytes in use are
    /// still those of `contents`.
    var reader: (any BlockReader)?
    /// Who gives a second opinion on what `reader` reads.
    var opinion: SecondOpinion?
    /// The least number of bytes that can be read alone: where a part is in use, all of it is.
    var unit: UInt64 = 1
}

/// A part of a volume inside a container.
struct VolumeSegment: Equatable, Sendable {
    /// Where the part starts in the volume, in bytes.
    var start: UInt64
    /// Where it lies in the container.
    var place: ByteRange
    /// Where it ends in the volume, in bytes.
    var end: UInt64 { start + place.byteCount }
}
