// SPDX-License-Identifier: GPL-3.0-or-later

/// The operations that Reforge supports on filesystems of one kind, apart from reading them: a row of
/// `FilesystemTraits.table`. All code that depends on the kind of a filesystem reads it; its reader is a row of
/// `VolumeIdentifier.formats`, its tool one of `ResizeTools`.
package struct FilesystemTraits: Sendable {
    /// The kinds of this row.
    package var kinds: Set<FilesystemInfo.Kind>
    /// For kinds that Reforge knows only by name (`Kind.other`): libblkid's names (TYPE). For all others: the names
    /// that differ from the kind's own.
    package var names: Set<String> = []

    /// How the kernel mounts it; `nil` if Reforge does not mount it.
    package var mount: MountManner?
    /// The types in the third field of fstab(5) that may mean it, beside libblkid's name.
    package var fstabTypes: Set<String> = []
    /// Whether an installed Linux system could have its root there.
    package var mayHoldSystem = false
    /// GRUB's module that reads it; `nil` if GRUB cannot boot from it.
    package var grubModule: String?

    /// Why it cannot be resized, as a sentence; `nil` without a known obstacle.
    package var resizeObstacle: @Sendable (FilesystemInfo) -> String? = { _ in nil }
    /// Why it cannot shrink, as a sentence.
    package var shrinkObstacle: @Sendable (FilesystemInfo) -> String? = { _ in nil }
    /// Whether it may grow even if it was not clean at its capture: its tool replays the log in the restored copy.
    package var growsUnclean = false
    /// Whether its tool can grow it on sectors of another size than it was made with.
    package var growsOnOtherSectors = true
    package var shrink = ShrinkManner.never
    /// Whether its tool first checks all of a filesystem with lost parts, and stops if it is not clean.
    package var checksLossesFirst: @Sendable (FilesystemInfo) -> Bool = { _ in false }
    /// The command that grows it to its partition, with `NODE` or `MOUNTPOINT` as placeholder.
    package var growCommand: String?

    /// The tool that names the files of blocks; `nil` if no tool does so without a mount.
    package var fileLookup: FileLookup?
    /// Its sectors that hold the number of sectors before its partition; `nil` without any.
    package var bootSectors: BootSectors?

    /// The rule for other sector sizes.
    package var sectors = SectorRule.unknown
    /// The work before the commit, after a restore of its used blocks only.
    package var olderLife = OlderLife.harmless

    /// How the kernel mounts a filesystem.
    package struct MountManner: Equatable, Sendable {
        /// The type for the kernel.
        package var type: String
        /// The options for a mount that writes nothing. Plain `ro` is not enough: it replays journals
        /// (Documentation/filesystems/ext4, xfs, btrfs, f2fs).
        package var readOnlyOptions = ""
        /// Whether it can be mounted for writing.
        package var isWritable = true

        package init(_ type: String, readOnlyOptions: String = "", isWritable: Bool = true) {
            self.type = type
            self.readOnlyOptions = readOnlyOptions
            self.isWritable = isWritable
        }
    }

    /// How a filesystem is made smaller.
    package enum ShrinkManner: Sendable {
        /// It cannot shrink.
        case never
        /// By its own tool, which needs access to all of it.
        case byTool
        /// By recreating it in its smaller partition: its contents do not matter.
        case madeAgain
    }

    /// A tool that names the files of given blocks.
    package enum FileLookup: Sendable { case debugfs, ntfscluster, xfsDebugger }

    /// The boot sectors with a BIOS parameter block: the first one, and the format's backup.
    package enum BootSectors: Sendable {
        /// The first one only.
        case first
        /// The first one, and the one whose number it holds (Microsoft FAT specification 1.03, §3.3: BPB_BkBootSec).
        case firstAndNamed
        /// The first one, and the one behind the last sector that the volume counts (NTFS, total sectors, at 40).
        case firstAndBehindLast
    }

    /// The rule for a volume on a disk with larger sectors.
    package enum SectorRule: Sendable {
        /// The length of its blocks decides; messages use this name for them.
        case blocks(String)
        /// The sector size that it was made with must not be smaller.
        case ownSectors
        /// Only the sector size that it was made for works.
        case sameSectors
        /// Only the sector size that it was made for works, but Reforge recreates it for others.
        case recreated
        /// Its extents must be aligned to the sectors, and its contents must support them.
        case extentsAndContents
        /// Its contents decide.
        case contents
        /// Unknown.
        case unknown
    }

    package init(_ kinds: Set<FilesystemInfo.Kind>, names: Set<String> = []) {
        self.kinds = kinds
        self.names = names
    }

    // MARK: The table

    /// Additional rows for kinds known only by name.
    package static let added = Registry<FilesystemTraits>([])

    /// The row for a kind of filesystem.
    /// - Parameter name: libblkid's name, which distinguishes kinds without a reader.
    package static func of(_ kind: FilesystemInfo.Kind, name: String) -> FilesystemTraits {
        if kind != .other { return byKind[kind] ?? unread }
        // A kind added by a later program is only a name here: no reader of this program applies to it.
        guard let row = named(name), row.kinds.isEmpty else { return unread }
        return row
    }

    /// The row for a libblkid name; `nil` for unknown names.
    package static func named(_ name: String) -> FilesystemTraits? {
        byName[name] ?? added.rows.first { $0.names.contains(name) }
    }

    private static let byKind = Dictionary(
        table.flatMap { row in row.kinds.map { ($0, row) } }, uniquingKeysWith: { first, _ in first })
    private static let byName = Dictionary(
        table.flatMap { row in
            (row.names.union(row.kinds.map(\.rawValue))).map { ($0, row) }
        }, uniquingKeysWith: { first, _ in first })
}

extension FilesystemInfo {
    package var traits: FilesystemTraits { FilesystemTraits.of(kind, name: kindName) }
}
