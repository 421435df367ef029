// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// The read-only inputs of a loader's survey.
package struct BootScene {
    /// The whole disk.
    package let disk: BlockDevice
    /// The partitions and volumes of the disk.
    package let volumes: [BootVolume]
    /// Whether its table is a GPT.
    package let hasGPT: Bool
    /// Its EFI system partition.
    package let esp: ESPContents?
    /// The system installed on it.
    package let system: InstalledSystem?
    /// The mounted system, with its /boot.
    let tree: SystemTree?
    /// What the disk hangs on in the machine that it is judged for; empty if that is unknown.
    var devices: [[DeviceDriver]] = []

    /// The installed system, as a folder whose links cannot lead outside. Fails without `system`.
    package func anchored() throws(BootRepairError) -> AnchoredFolder {
        guard let tree else { throw .system(SystemCallError("open", TreePlace.system.name, .noSuchFileOrDirectory)) }
        do throws(SystemCallError) { return try tree.anchored() } catch { throw .system(error) }
    }

    /// The path of a folder of the installed system in its filesystem, as a loader sees it.
    package func pathInFilesystem(_ path: String) -> String? { tree?.pathInFilesystem(path) }
}
