// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension RestorePlan {
    /// The destination of a region of the image.
    package enum Destination: Equatable, Sendable {
        /// The target, from this byte on.
        case disk(offset: UInt64)
        /// Its place on the target for the front, the scratch for the rest.
        case spill(Spill)
        /// None: the region is not restored.
        case skipped
    }

    /// A volume that does not fit its place on the target: it shrinks, or is recreated from the scratch.
    package struct Spill: Equatable, Sendable {
        /// The place of its front, in bytes of the target; empty if all of it goes to the scratch.
        package var front: ByteRange
        /// The length of the volume in bytes.
        package var byteCount: UInt64
        /// The start of the rest, in bytes of the scratch.
        package var scratchOffset: UInt64
    }

    /// The volumes that spill, in the order of their rests on the scratch: shrinks first, then recreated FATs.
    var spills: [Spill] {
        let volumes: [(UInt64, ByteRange)] =
            shrinks.map { ($0.fromByteCount, $0.range) } + remakes.map { ($0.fromByteCount, $0.front) }
        var scratchOffset: UInt64 = 0
        var spills: [Spill] = []
        for (byteCount, front) in volumes {
            spills.append(Spill(front: front, byteCount: byteCount, scratchOffset: scratchOffset))
            scratchOffset += restByteCount(of: byteCount, behind: front)
        }
        return spills
    }

    /// The place of a shrinking volume.
    func spill(of shrink: Shrink) -> Spill? { spills.first { $0.front == shrink.range } }

    /// The place of a recreated FAT.
    func spill(of remake: Remake) -> Spill? { spills.first { $0.front == remake.front } }

    /// The scratch space for the part of `byteCount` bytes that exceeds its place, in whole sectors of the target,
    /// because device-mapper joins only those.
    func restByteCount(of byteCount: UInt64, behind place: ByteRange) -> UInt64 {
        let rest = byteCount - min(byteCount, place.byteCount)
        return rest.roundedUp(toMultipleOf: UInt64(geometry.logicalSectorSize)) ?? rest
    }
}

extension RestorePlan.Remake {
    /// Nothing of the captured FAT goes to its place.
    fileprivate var front: ByteRange { range.lowerBound..<range.lowerBound }
}
