// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage

/// What the survey of a loader looks at; it writes to none of it.
package struct BootScene {
    /// The whole disk.
    package let disk: BlockDevice
    /// What the disk holds.
    package let volumes: [BootVolume]
    /// Its EFI system partition.
    package let esp: ESPContents?
    /// The system installed on it.
    package let system: InstalledSystem?
    /// Where that is mounted, with its /boot.
    let tree: SystemTree?

    /// The installed system, as a folder that no link leads out of. There is none without `system`.
    package func anchored() throws(BootRepairError) -> AnchoredFolder {
        guard let tree else { throw .system(SystemCallError("open", TreePlace.system.name, .noSuchFileOrDirectory)) }
        do throws(SystemCallError) { return try tree.anchored() } catch { throw .system(error) }
    }

    /// The path of a folder of the installed system in the filesystem that it is on, as a loader sees it.
    package func pathInFilesystem(_ path: String) -> String? { tree?.pathInFilesystem(path) }
}
