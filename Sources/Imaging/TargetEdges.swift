// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// Zeroes the ranges that a restore leaves unwritten at boundaries, so that no stale signature of md, ZFS or another
/// filesystem reappears there.
struct TargetEdges {
    let plan: RestorePlan
    let header: ImageHeader
    let writer: TargetWriter

    /// The length that is cleared at each end, in bytes.
    private static let edge: UInt64 = 1 << 20

    func clear() throws(BlockIOError) {
        try clearPartitions()
        if plan.only == nil { try clearEnd() }
    }

    /// The first and last MiB of each target partition.
    private func clearPartitions() throws(BlockIOError) {
        for placement in plan.placements ?? [] {
            let index = header.manifest.regions.firstIndex { $0.partition == placement.number }
            // The partition for a loader is in no image.
            guard index != nil || placement.number == plan.conversion?.added?.number else { continue }
            let length = placement.to.byteCount
            var written = AllocationMap(byteCount: length)
            // A recreated FAT is written after this.
            if let index, !plan.remakes.contains(where: { $0.number == placement.number }) {
                written.insert(contentsOf: header.maps[index])
            }
            let unwritten = written.complement
            for window in [0..<min(Self.edge, length), length - min(Self.edge, length)..<length] {
                for range in unwritten.ranges(in: window) {
                    try writer.writeZeros(
                        placement.to.lowerBound + range.lowerBound..<placement.to.lowerBound + range.upperBound)
                }
            }
        }
    }

    /// The last MiB of the target, outside of partitions: a signature that an older life of the disk left there (md
    /// 0.90, ZFS) would make it two things at once.
    private func clearEnd() throws(BlockIOError) {
        let end = writer.target.byteCount
        let window = end - min(end, Self.edge)..<end
        var covered = plan.placements?.map(\.to) ?? []
        for (index, destination) in plan.destinations.enumerated() {
            // A spilled region lies inside its partition.
            guard case .disk(let place) = destination else { continue }
            let part = window.clamped(to: place..<place + header.maps[index].byteCount)
            guard !part.isEmpty else { continue }
            covered += header.maps[index].ranges(in: part.lowerBound - place..<part.upperBound - place)
                .map { $0.lowerBound + place..<$0.upperBound + place }
        }
        let map = AllocationMap(byteCount: end, unsorted: covered)
        for range in map.complement.ranges(in: window) { try writer.writeZeros(range) }
    }
}
