// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel

/// What a restore will do to a target: a value that can be shown before anything is written.
package struct RestorePlan: Equatable, Sendable {
    /// One partition (or the volume of a disk without a table).
    package struct Item: Equatable, Sendable {
        /// Its number; `nil` for a disk without a table.
        package var number: Int?
        /// Its name in the table.
        package var name: String
        /// What it is for.
        package var type: String
        /// What it holds.
        package var filesystem: String
        /// The filesystem's label.
        package var label: String?
        /// Where it was, in bytes.
        package var from: ByteRange
        /// Where it goes, in bytes.
        package var to: ByteRange
        /// The bytes that are written.
        package var usedByteCount: UInt64
        /// What happens to it, in order.
        package var actions: [Action]
        /// The logical volumes of a physical volume that gets another size; `nil` of everything else.
        package var volumes: [Volume]?
    }

    /// What a restore does to a partition.
    package enum Action: Equatable, Sendable {
        /// Its data is written.
        case restore
        /// Its data is written into an existing partition of this number.
        case restoreInto(partition: Int)
        /// It starts elsewhere.
        case move
        /// It starts elsewhere, and nothing of it is in use.
        case moveUnused
        /// It stays, and nothing of it is in use.
        case leaveUnused
        /// Its FAT is made again, with sectors of the target's size.
        case remake
        /// Its filesystem is made smaller.
        case shrink
        /// Its filesystem is made to fill its place.
        case grow
        /// Its log begins in a newer cycle.
        case renewLog
        /// Its unused ranges become zeros.
        case clearUnused
    }

    /// One logical volume of a physical volume that gets another size.
    package struct Volume: Codable, Equatable, Sendable {
        /// Its name: `group/volume`.
        package var name: String
        /// What it holds.
        package var filesystem: String
        /// Its length as captured, in bytes.
        package var fromByteCount: UInt64
        /// The length that it gets, in bytes.
        package var toByteCount: UInt64
    }

    /// The image's UUID.
    package var imageUUID: GUID
    /// The target.
    package var target: DiskIdentity
    /// Its size and units.
    package var geometry: DiskGeometry
    /// How sizes follow the target, and what was wished of single partitions.
    package var request: LayoutRequest
    /// The partitions.
    package var items: [Item]
    /// Where each region of the image goes.
    package var destinations: [Destination]
    /// The table to write; `nil` for a disk without one that is understood.
    package var placements: [DiskLayout.Placement]?
    /// The one partition of the target that is written; `nil` where all of the disk is.
    package var only: Only?
    /// Whether the table is the captured one to the bit.
    package var tableIsUnchanged: Bool
    /// The filesystems to grow: where each will lie.
    package var growths: [Growth]
    /// The filesystems to make smaller, before the commit.
    package var shrinks: [Shrink]
    /// The FATs to make anew, with sectors of the target's size, before the commit.
    package var remakes: [Remake] = []
    /// What a person should know.
    package var warnings: [Warning]

    /// A partition that is restored into an existing one.
    package struct Only: Codable, Equatable, Sendable {
        /// Its number in the image.
        package var number: Int
        /// The number of the existing partition.
        package var existing: Int
        /// Where the existing partition lies, in bytes.
        package var range: ByteRange
    }

    /// A filesystem to grow.
    package struct Growth: Codable, Equatable, Sendable {
        /// The partition; `nil` for a filesystem on the bare disk.
        package var number: Int?
        /// Whether it grows after the commit: its own front is written last.
        package var isLate: Bool
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// What it is.
        package var filesystem: FilesystemInfo
        /// Of a physical volume of LVM, itself or inside of LUKS: the lengths that its volumes get, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?
    }

    /// A filesystem to make smaller: its front goes to its place, the rest to a scratch, and its own tool makes it fit.
    package struct Shrink: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// The length of the partition that it comes from, in bytes.
        package var fromByteCount: UInt64
        /// How much of it is in use behind its place: the scratch has to hold that, in bytes.
        package var scratchByteCount: UInt64
        /// What it is.
        package var filesystem: FilesystemInfo
        /// Of a physical volume of LVM, itself or inside of LUKS: the lengths that its volumes get, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?

        /// The filesystems whose own tools have to make them smaller.
        package var shrinking: [FilesystemInfo] {
            guard let volumeByteCounts else { return [EncryptedContents(filesystem)?.inner ?? filesystem] }
            let volumes = filesystem.physicalVolume?.inner ?? []
            return zip(volumes, volumeByteCounts).filter { $1 < $0.byteCount }.map(\.0.filesystem)
        }

        /// Whether its tool needs to see all of it; swap is only made anew.
        package var needsComposite: Bool { filesystem.traits.shrink != .madeAgain }
    }

    /// A FAT to make anew: all of the captured one goes to a scratch, and its files from there into a new one.
    package struct Remake: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// The length of the partition that it comes from, in bytes.
        package var fromByteCount: UInt64
        /// How much of it is in use: the scratch has to hold that, in bytes.
        package var scratchByteCount: UInt64
        /// What it was.
        package var filesystem: FilesystemInfo
    }

    /// The room that the scratch needs, in bytes.
    package var scratchByteCount: UInt64 {
        shrinks.reduce(0) { $0 + $1.scratchByteCount } + remakes.reduce(0) { $0 + $1.scratchByteCount }
    }

    /// What tells this plan from another: a journal of one is not followed by another. The same disk may have another
    /// name after a restart or in another port.
    func digest() throws -> ContentHash {
        var plan = self
        plan.target.path = ""
        plan.target.kernelName = nil
        plan.target.diskSequence = nil
        plan.target.pathByPlace = nil
        return ContentHash(of: try JSONText.encode(JSON(plan, warnings: [])))
    }
}
