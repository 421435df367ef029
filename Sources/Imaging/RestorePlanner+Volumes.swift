// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

// Physical volumes of LVM, also inside of LUKS: what is inside gets another size with them.
extension RestorePlanner {
    /// The lengths that the volumes inside get, where their place gets another length; `nil` of everything but LVM.
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

    /// The same for a larger place, in which a group that cannot get another size here keeps it.
    static func grownLengths(
        _ filesystem: FilesystemInfo, on place: ByteRange, _ policy: LayoutPolicy, _ obstacles: ResizeObstacles
    ) throws(ImagingError) -> [UInt64]? {
        guard obstacles.toGrow(filesystem) == nil, filesystem.physicalVolume?.resizeAbility.canGrow == true,
            EncryptedContents(filesystem)?.growObstacle == nil
        else { return nil }
        return try volumeLengths(filesystem, on: place, policy)
    }

    /// How much the scratch has to hold.
    /// - Parameters:
    ///   - place: the length that it gets, in bytes.
    ///   - behind: what is in use behind the place, in bytes.
    ///   - most: the length of all that lies behind it.
    static func scratchLength(
        _ filesystem: FilesystemInfo, _ byteCounts: [UInt64]?, in place: UInt64, behind: UInt64, most: UInt64
    ) -> UInt64 {
        let end = EncryptedContents(filesystem).map { $0.byteCount(in: place) ?? 0 } ?? place
        var length = behind
        let volumes = filesystem.physicalVolume?.inner ?? []
        for (volume, byteCount) in zip(volumes, byteCounts ?? []) where byteCount < volume.byteCount {
            // What its tool moves to the front of a volume, no more than is in use, may lie on the scratch until the extents
            // move; of those that it has there.
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

    /// The volumes inside, for whoever looks at the plan.
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
