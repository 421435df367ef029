// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// What of resizing the machine that restores cannot do, as sentence parts; `nil` where nothing is in the way.
package struct ResizeObstacles {
    /// Why no filesystem can be made smaller here.
    package var shrink: String?
    /// Why no LUKS volume can be opened here: its key was not given, a program is missing.
    package var encrypted: String?
    /// Why a physical volume of that group cannot get another size here.
    package var volumeGroup: (FilesystemInfo.VolumeGroup) -> String?

    /// LVM's programs were not tried on a physical volume made for other sectors.
    static let otherSectors = "LVM on sectors of another size keeps its size"

    /// Nothing is in the way, but for what is named.
    package init(
        shrink: String? = nil, encrypted: String? = nil,
        volumeGroup: @escaping (FilesystemInfo.VolumeGroup) -> String? = { _ in nil }
    ) {
        self.shrink = shrink
        self.encrypted = encrypted
        self.volumeGroup = volumeGroup
    }

    /// Why what a volume holds keeps its size in a larger place, as far as it is reached through something else.
    func toGrow(_ filesystem: FilesystemInfo) -> String? {
        if filesystem.kind == .luks, let encrypted { return encrypted }
        return filesystem.physicalVolume?.volumeGroup.flatMap(volumeGroup)
    }

    /// Why what a volume holds cannot be made smaller here; swap is only made anew.
    func toShrink(_ filesystem: FilesystemInfo) -> String? {
        (filesystem.traits.shrink == .madeAgain ? nil : shrink) ?? toGrow(filesystem)
    }
}
