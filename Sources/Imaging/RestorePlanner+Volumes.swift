// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

// Physical volumes of LVM: what is inside gets another size with them.
extension RestorePlanner {
    /// The lengths that the volumes inside get, where their place gets another length; `nil` of everything but LVM.
    static func volumeLengths(
        _ filesystem: FilesystemInfo, on place: ByteRange, _ policy: LayoutPolicy
    ) throws(ImagingError) -> [UInt64]? {
        guard filesystem.kind == .lvm else { return nil }
        guard let lengths = VolumeGroupLayout(filesystem)?.byteCounts(on: place.byteCount, policy: policy) else {
            throw .refused(
                "the volume group \(filesystem.volumeGroup?.name ?? "") cannot be made to fit "
                    + "\(ByteText.rounded(place.byteCount)): its logical volumes do not add up")
        }
        return lengths
    }

    /// How much the scratch has to hold.
    /// - Parameters:
    ///   - behind: what is in use behind the place, in bytes.
    ///   - most: the length of all that lies behind it.
    static func scratchLength(
        _ filesystem: FilesystemInfo, _ byteCounts: [UInt64]?, behind: UInt64, most: UInt64
    ) -> UInt64 {
        var length = behind
        for (volume, byteCount) in zip(filesystem.inner ?? [], byteCounts ?? []) where byteCount < volume.byteCount {
            // What its tool moves to the front of a volume, no more than is in use, may lie on the scratch until the extents
            // move.
            let moved = min(byteCount, volume.filesystem.leastByteCount ?? byteCount)
            let (sum, overflow) = length.addingReportingOverflow(moved)
            length = overflow ? .max : sum
        }
        return byteCounts == nil ? behind : min(length, most)
    }

    /// The volumes inside, for whoever looks at the plan.
    static func volumeSizes(_ filesystem: FilesystemInfo?, _ byteCounts: [UInt64]?) -> [RestorePlan.Volume]? {
        byteCounts.map { byteCounts in
            zip(filesystem?.inner ?? [], byteCounts).map { volume, byteCount in
                RestorePlan.Volume(
                    name: volume.name, filesystem: volume.filesystem.kindName, fromByteCount: volume.byteCount,
                    toByteCount: byteCount)
            }
        }
    }
}
