// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

// Physical volumes of LVM, also inside LUKS: their logical volumes are resized with them.
extension RestorePlanner {
    /// The new lengths of the logical volumes in a resized place; `nil` for anything but LVM.
    static func volumeLengths(
        _ filesystem: FilesystemInfo, on place: ByteRange, _ policy: LayoutPolicy
    ) throws(ImagingError) -> [UInt64]? {
        guard let volume = filesystem.physicalVolume else { return nil }
        let contents = EncryptedContents(filesystem)
        let room = contents.map { $0.byteCount(in: place.byteCount) } ?? place.byteCount
        guard let room, let lengths = VolumeGroupLayout(volume)?.byteCounts(on: room, policy: policy) else {
            throw .refused(
                "the volume group \(volume.volumeGroup?.name ?? "") cannot be made to fit "
                    + "\(ByteText.rounded(place.byteCount)): its logical volumes do not add up")
        }
        return lengths
    }

    /// The new lengths of the logical volumes in a larger place; `nil` if their group cannot be resized here.
    static func grownLengths(
        _ filesystem: FilesystemInfo, on place: ByteRange, _ policy: LayoutPolicy, _ obstacles: ResizeObstacles
    ) throws(ImagingError) -> [UInt64]? {
        guard obstacles.toGrow(filesystem) == nil, filesystem.physicalVolume?.resizeAbility.canGrow == true,
            EncryptedContents(filesystem)?.growObstacle == nil
        else { return nil }
        return try volumeLengths(filesystem, on: place, policy)
    }

    /// The bytes that the scratch has to hold.
    /// - Parameters:
    ///   - place: the new length, in bytes.
    ///   - behind: the used bytes beyond the place.
    ///   - most: all bytes beyond the place.
    static func scratchLength(
        _ filesystem: FilesystemInfo, _ byteCounts: [UInt64]?, in place: UInt64, behind: UInt64, most: UInt64
    ) -> UInt64 {
        let end = EncryptedContents(filesystem).map { $0.byteCount(in: place) ?? 0 } ?? place
        var length = behind
        let volumes = filesystem.physicalVolume?.inner ?? []
        for (volume, byteCount) in zip(volumes, byteCounts ?? []) where byteCount < volume.byteCount {
            // The data that the tool moves to the front of a volume, at most what is in use, may lie on the scratch
            // until pvmove moves the extents; at most the part of the volume that is there.
            let onScratch = volume.places?.reduce(UInt64(0)) { sum, part in
                let rest = part.upperBound > end ? part.upperBound - max(part.lowerBound, end) : 0
                return sum.addingReportingOverflow(rest).partialValue
            }
            let moved = min(byteCount, volume.filesystem.leastByteCount ?? byteCount, onScratch ?? .max)
            let (sum, overflow) = length.addingReportingOverflow(moved)
            length = overflow ? .max : sum
        }
        return byteCounts == nil ? behind : min(length, most)
    }

    /// The logical volumes, for display.
    static func volumeSizes(_ filesystem: FilesystemInfo?, _ byteCounts: [UInt64]?) -> [RestorePlan.Volume]? {
        byteCounts.map { byteCounts in
            zip(filesystem?.physicalVolume?.inner ?? [], byteCounts).map { volume, byteCount in
                RestorePlan.Volume(
                    name: volume.name, filesystem: volume.filesystem.kindName, fromByteCount: volume.byteCount,
                    toByteCount: byteCount)
            }
        }
    }
}
