// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemPackage

/// A disk put together from images of its parts, made by another tool. A value: the parts' contents are not read yet.
package struct ForeignDisk: Sendable {
    /// The name in messages: the folder or the file.
    package var name: String
    /// The name of the format: "Clonezilla", "FOG", "partclone".
    package var format: String
    package var geometry: DiskGeometry
    /// Model and serial number, where the folder has them.
    package var identity: DiskIdentity
    /// Bytes known from small files: the heads and tails of partition tables, hidden data, boot records, headers of
    /// LUKS, metadata of LVM. Ascending, disjoint, and disjoint from the parts.
    package var fixed: [ForeignBytes]
    /// Ascending by their first place, disjoint from each other.
    package var parts: [ForeignPart]
    /// What the format cannot prove, and what is missing or was left out.
    package var warnings: [String]
    /// Every file it was read from: a change of one of them while it is read is detected.
    package var files: [FilePath]

    package init(
        name: String, format: String, geometry: DiskGeometry, identity: DiskIdentity, fixed: [ForeignBytes] = [],
        parts: [ForeignPart] = [], warnings: [String] = [], files: [FilePath] = []
    ) {
        self.name = name
        self.format = format
        self.geometry = geometry
        self.identity = identity
        self.fixed = fixed
        self.parts = parts
        self.warnings = warnings
        self.files = files
    }
}

/// Known bytes at an offset of the disk.
package struct ForeignBytes: Sendable {
    package var offset: UInt64
    package var bytes: [UInt8]

    package init(offset: UInt64, bytes: [UInt8]) {
        self.offset = offset
        self.bytes = bytes
    }
}

/// A volume: the places of its bytes, and their source.
package struct ForeignPart: Sendable {
    /// "sda3", "vg/root".
    package var label: String
    /// Its places on the disk in the order of the volume: one for a partition, several for a logical volume. Their sum
    /// is the room for the content, which may be shorter.
    package var segments: [ByteRange]
    package var content: ForeignContent

    package init(label: String, segments: [ByteRange], content: ForeignContent) {
        self.label = label
        self.segments = segments
        self.content = content
    }
}

package enum ForeignContent: Sendable {
    /// Pieces of one stream, compressed or not.
    case stream(PieceStream, ForeignPayload)
    case zeros
    /// A new swap area.
    case swap(uuid: GUID?, label: String)
    /// In the table, but without an image: reads as unreadable, never as zeros.
    case missing(reason: String)
}

/// The content of a part's stream, decompressed.
package enum ForeignPayload: Sendable {
    case partclone
    /// The bytes of the volume.
    case raw
    /// By the magic number: partclone, or else raw.
    case probe
}
