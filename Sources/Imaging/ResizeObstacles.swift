// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The resize operations that this machine cannot perform, as sentence parts; `nil` without an obstacle.
package struct ResizeObstacles {
    /// Why no filesystem can shrink here.
    package var shrink: String?
    /// Why no LUKS volume can be opened here: no key was given, or a program is missing.
    package var encrypted: String?
    /// Why a physical volume of that group cannot be resized here.
    package var volumeGroup: (FilesystemInfo.VolumeGroup) -> String?

    /// LVM's programs are untested on a physical volume made for other sectors.
    static let otherSectors = "LVM on sectors of another size keeps its size"

    /// No obstacles except those given.
    package init(
        shrink: String? = nil, encrypted: String? = nil,
        volumeGroup: @escaping (FilesystemInfo.VolumeGroup) -> String? = { _ in nil }
    ) {
        self.shrink = shrink
        self.encrypted = encrypted
        self.volumeGroup = volumeGroup
    }

    /// Why the contents of a LUKS or LVM volume cannot grow here; `nil` for other volumes.
    func toGrow(_ filesystem: FilesystemInfo) -> String? {
        if filesystem.kind == .luks, let encrypted { return encrypted }
        return filesystem.physicalVolume?.volumeGroup.flatMap(volumeGroup)
    }

    /// Why a filesystem cannot shrink here; swap is recreated and needs no tool.
    func toShrink(_ filesystem: FilesystemInfo) -> String? {
        (filesystem.traits.shrink == .madeAgain ? nil : shrink) ?? toGrow(filesystem)
    }
}
