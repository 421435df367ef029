// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

// The data needed to resize the physical volume.
extension LVMReader {
    /// The place of the extents, and the other areas that need room.
    func facts(endOfExtents: UInt64, resizeObstacle: String?) -> FilesystemInfo.VolumeGroup {
        let behind = label.metadataAreas.filter { $0.lowerBound >= endOfExtents }
        // pvresize recreates the second area at the new end, with the alignment of the first extent (LVM2's
        // `lib/format_text/format-text.c`, `_text_pv_add_metadata_area`).
        let alignment = max(1 << 20, physicalVolume.extentStart)
        let tail = behind.map(\.byteCount).max().map { length -> UInt64 in
            let (sum, overflow) = length.addingReportingOverflow(alignment)
            return overflow ? .max : sum
        }
        return FilesystemInfo.VolumeGroup(
            name: group.name, id: group.id, extentStart: physicalVolume.extentStart,
            extentByteCount: group.extentByteCount, extentCount: physicalVolume.extentCount, tailByteCount: tail ?? 0,
            resizeObstacle: resizeObstacle)
    }

    /// Why the physical volume keeps its size, as a sentence part.
    func obstacle(to volumes: [InnerPlace]) -> String? {
        let name = group.name
        if group.physicalVolumes.count != 1 {
            return
                "its volume group \(name) lies on \(group.physicalVolumes.count) disks, of which one alone is not resized"
        }
        if !group.status.isSuperset(of: ["RESIZEABLE", "WRITE"]) || group.status.contains("WRITE_LOCKED") {
            return "its volume group \(name) may not be changed"
        }
        if !physicalVolume.status.contains("ALLOCATABLE") { return "its volume group \(name) allocates nothing on it" }
        if let owner = group.systemID { return "its volume group \(name) belongs to the system \(owner) alone" }
        for place in volumes {
            if case .closed(let reason) = place.contents { return "\(place.name) cannot be moved: \(reason)" }
        }
        for volume in group.logicalVolumes {
            // An invisible volume serves another one, which would have been closed.
            guard volume.status.contains("VISIBLE") else { return "\(name)/\(volume.name) is not a visible one" }
            let odd = volume.status.contains("FIXED_MINOR") || volume.status.contains("WRITE_LOCKED")
            if odd || !volume.status.contains("WRITE") { return "\(name)/\(volume.name) may not be changed" }
        }
        return nil
    }
}
