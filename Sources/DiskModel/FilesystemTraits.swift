// SPDX-License-Identifier: GPL-3.0-or-later

/// What Reforge can do with filesystems of one kind, apart from reading them: a row of `FilesystemTraits.table`. Everything that
/// depends on the kind of a filesystem reads it; its reader is a row of `VolumeIdentifier.formats`, its tool one of `ResizeTools`.
package struct FilesystemTraits: Sendable {
    /// The kinds that this row is of.
    package var kinds: Set<FilesystemInfo.Kind>
    /// Of kinds that Reforge only knows by name (`Kind.other`): libblkid's names (TYPE). Of all others, the names that differ from
    /// the kind's own.
    package var names: Set<String> = []

    /// How the kernel mounts it; `nil` where nothing here mounts it.
    package var mount: MountManner?
    /// The types in the third field of fstab(5) that may mean it, beside libblkid's name.
    package var fstabTypes: Set<String> = []
    /// Whether an installed Linux system could have its root there.
    package var mayHoldSystem = false
    /// GRUB's module that reads it; `nil` where GRUB starts nothing from it.
    package var grubModule: String?

    /// Why one keeps its size, larger or smaller, as a sentence; `nil` where nothing is known to be in the way.
    package var resizeObstacle: @Sendable (FilesystemInfo) -> String? = { _ in nil }
    /// Why one cannot be made smaller, as a sentence.
    package var shrinkObstacle: @Sendable (FilesystemInfo) -> String? = { _ in nil }
    /// Whether one that was not clean when it was captured may grow all the same: its tool replays the log in the restored copy.
    package var growsUnclean = false
    /// Whether its tool makes it larger on sectors of another size than it was made with.
    package var growsOnOtherSectors = true
    /// How it is made smaller.
    package var shrink = ShrinkManner.never
    /// Whether its tool, before it changes anything, checks all of one of which parts are lost, and ends where that is not clean.
    package var checksLossesFirst: @Sendable (FilesystemInfo) -> Bool = { _ in false }
    /// The command for a person that makes it fill its place, with `NODE` or `MOUNTPOINT` for what it is on.
    package var growCommand: String?

    /// The tool that names the files of blocks; `nil` where none does while it is not mounted.
    package var fileLookup: FileLookup?
    /// Which of its sectors say how many sectors lie in front of its partition; `nil` where none does.
    package var bootSectors: BootSectors?

    /// What decides whether it works on sectors of another size.
    package var sectors = SectorRule.unknown
    /// What one that was restored by its map needs done before the commit.
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

        /// Names a type.
        package init(_ type: String, readOnlyOptions: String = "", isWritable: Bool = true) {
            self.type = type
            self.readOnlyOptions = readOnlyOptions
            self.isWritable = isWritable
        }
    }

    /// How a filesystem is made smaller.
    package enum ShrinkManner: Sendable {
        /// It is not.
        case never
        /// By its own tool, which has to see all of it.
        case byTool
        /// By making it again, in its smaller place: nothing of its contents counts.
        case madeAgain
    }

    /// A tool that tells which files have certain blocks.
    package enum FileLookup: Sendable { case debugfs, ntfscluster, xfsDebugger }

    /// The boot sectors with a BIOS parameter block: the first one, and the backup that the format has.
    package enum BootSectors: Sendable {
        /// The first one only.
        case first
        /// And the one that it names itself (Microsoft FAT specification 1.03, §3.3: BPB_BkBootSec).
        case firstAndNamed
        /// And the one behind the last sector that the volume counts (NTFS, total sectors, at 40).
        case firstAndBehindLast
    }

    /// What decides whether a volume works on a disk with larger sectors.
    package enum SectorRule: Sendable {
        /// The length of its blocks, which messages call so.
        case blocks(String)
        /// The sector size that it was made with must be no smaller.
        case ownSectors
        /// It works on sectors of the size that it was made for, and no others.
        case sameSectors
        /// The same, but Reforge recreates it for others.
        case recreated
        /// Extents on boundaries of the sectors, and what is inside.
        case extentsAndContents
        /// What is inside.
        case contents
        /// Nobody knows.
        case unknown
    }

    /// Describes a kind.
    package init(_ kinds: Set<FilesystemInfo.Kind>, names: Set<String> = []) {
        self.kinds = kinds
        self.names = names
    }

    // MARK: The table

    /// Rows for kinds that Reforge knows by name only, beside those of the table.
    package static let added = Registry<FilesystemTraits>([])

    /// The row of a filesystem of some kind.
    /// - Parameter name: libblkid's name of it, which tells kinds apart that Reforge has no reader for.
    package static func of(_ kind: FilesystemInfo.Kind, name: String) -> FilesystemTraits {
        if kind != .other { return byKind[kind] ?? unread }
        // What a later program knows by a kind of its own is only a name here: none of this program's readers speaks for it.
        guard let row = named(name), row.kinds.isEmpty else { return unread }
        return row
    }

    /// The row of what libblkid calls so; `nil` where nothing is known of it.
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
    /// What can be done with it.
    package var traits: FilesystemTraits { FilesystemTraits.of(kind, name: kindName) }
}
