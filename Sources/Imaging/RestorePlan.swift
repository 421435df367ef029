// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel

/// The plan of a restore: a value that can be shown before anything is written.
package struct RestorePlan: Equatable, Sendable {
    /// A partition, or the volume of a disk without a table.
    package struct Item: Equatable, Sendable {
        /// The partition number; `nil` for a disk without a table.
        package var number: Int?
        /// The name in the table.
        package var name: String
        /// The partition type, in words.
        package var type: String
        /// The name of the filesystem.
        package var filesystem: String
        /// The filesystem's label.
        package var label: String?
        /// The place on the captured disk, in bytes.
        package var from: ByteRange
        /// The place on the target, in bytes.
        package var to: ByteRange
        /// The bytes that are written.
        package var usedByteCount: UInt64
        /// The actions on the partition, in order.
        package var actions: [Action]
        /// The logical volumes of a resized physical volume; `nil` for other contents.
        package var volumes: [Volume]?
    }

    /// An action of a restore on a partition.
    package enum Action: Equatable, Sendable {
        /// Writes its data.
        case restore
        /// Writes its data into an existing partition of this number.
        case restoreInto(partition: Int)
        /// Places it at another start.
        case move
        /// Places it at another start; nothing in it is used.
        case moveUnused
        /// Leaves it in place; nothing in it is used.
        case leaveUnused
        /// Recreates its FAT, with sectors of the target's size.
        case remake
        /// Shrinks its filesystem.
        case shrink
        /// Grows its filesystem to fill its place.
        case grow
        /// Starts its log in a newer cycle.
        case renewLog
        /// Zeroes its unused ranges.
        case clearUnused
        /// Makes it, for a loader.
        case make
    }

    /// A logical volume of a resized physical volume.
    package struct Volume: Codable, Equatable, Sendable {
        /// The name: `group/volume`.
        package var name: String
        /// The name of the filesystem.
        package var filesystem: String
        /// The captured length, in bytes.
        package var fromByteCount: UInt64
        /// The new length, in bytes.
        package var toByteCount: UInt64
    }

    /// The image's UUID.
    package var imageUUID: GUID
    /// The target.
    package var target: DiskIdentity
    /// The target's size and sector sizes.
    package var geometry: DiskGeometry
    /// The layout policy, and the requested sizes of single partitions.
    package var request: LayoutRequest
    /// The partitions.
    package var items: [Item]
    /// The destination of each region of the image.
    package var destinations: [Destination]
    /// The places of partitions in the table to write; `nil` without a known table.
    package var placements: [DiskLayout.Placement]?
    /// The one partition of the target that is written; `nil` for the whole disk.
    package var only: Only?
    /// Whether the table equals the captured one to the bit.
    package var tableIsUnchanged: Bool
    /// The filesystems to grow.
    package var growths: [Growth]
    /// The filesystems to shrink, before the commit.
    package var shrinks: [Shrink]
    /// The FATs to recreate with sectors of the target's size, before the commit.
    package var remakes: [Remake] = []
    /// The change of the partition table for a start by the other firmware; `nil` for none.
    package var conversion: TableConversion?
    package var warnings: [Warning]

    /// A partition that is restored into an existing one.
    package struct Only: Codable, Equatable, Sendable {
        /// The partition number in the image.
        package var number: Int
        /// The number of the existing partition.
        package var existing: Int
        /// The place of the existing partition, in bytes.
        package var range: ByteRange
    }

    /// A filesystem to grow.
    package struct Growth: Codable, Equatable, Sendable {
        /// The partition; `nil` for a filesystem on the bare disk.
        package var number: Int?
        /// Whether it grows after the commit, because the commit writes its front.
        package var isLate: Bool
        /// Its place on the target, in bytes.
        package var range: ByteRange
        /// The filesystem.
        package var filesystem: FilesystemInfo
        /// For a physical volume of LVM, itself or inside LUKS: the new lengths of its volumes, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?
    }

    /// A filesystem to shrink: its front goes to its place, the rest to a scratch, and its own tool makes it fit.
    package struct Shrink: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Its place on the target, in bytes.
        package var range: ByteRange
        /// The length of the captured partition, in bytes.
        package var fromByteCount: UInt64
        /// The bytes that the scratch has to hold: the used part beyond its place.
        package var scratchByteCount: UInt64
        /// The filesystem.
        package var filesystem: FilesystemInfo
        /// For a physical volume of LVM, itself or inside LUKS: the new lengths of its volumes, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?

        /// The filesystems that their own tools have to shrink.
        package var shrinking: [FilesystemInfo] {
            guard let volumeByteCounts else { return [EncryptedContents(filesystem)?.inner ?? filesystem] }
            let volumes = filesystem.physicalVolume?.inner ?? []
            return zip(volumes, volumeByteCounts).filter { $1 < $0.byteCount }.map(\.0.filesystem)
        }

        /// Whether its tool needs to see all of it; swap is only recreated.
        package var needsComposite: Bool { filesystem.traits.shrink != .madeAgain }
    }

    /// A FAT to recreate: all of the captured one goes to a scratch, and its files from there into a new one.
    package struct Remake: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Its place on the target, in bytes.
        package var range: ByteRange
        /// The length of the captured partition, in bytes.
        package var fromByteCount: UInt64
        /// The bytes that the scratch has to hold: its used part.
        package var scratchByteCount: UInt64
        /// The captured filesystem.
        package var filesystem: FilesystemInfo
    }

    /// The bytes that the scratch has to hold.
    package var scratchByteCount: UInt64 {
        shrinks.reduce(0) { $0 + $1.scratchByteCount } + remakes.reduce(0) { $0 + $1.scratchByteCount }
    }

    /// Identifies the plan: only the plan of a journal resumes its restore. The names of the target are left out,
    /// because they may differ after a restart or in another port.
    func digest() throws -> ContentHash {
        var plan = self
        plan.target.path = ""
        plan.target.kernelName = nil
        plan.target.diskSequence = nil
        plan.target.pathByPlace = nil
        return ContentHash(of: try JSONText.encode(JSON(plan, warnings: [])))
    }
}
