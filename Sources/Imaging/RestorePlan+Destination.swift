// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension RestorePlan {
    /// Where a region of the image goes.
    package enum Destination: Equatable, Sendable {
        /// To the target, from this byte on.
        case disk(offset: UInt64)
        /// Its front to its place on the target, the rest to the scratch.
        case spill(Spill)
        /// Nowhere: it is not restored.
        case skipped
    }

    /// A volume that its place on the target does not hold: it is made smaller, or made again from what the scratch has.
    package struct Spill: Equatable, Sendable {
        /// Where its front goes, in bytes of the target; empty where all of it goes to the scratch.
        package var front: ByteRange
        /// The length of the volume in bytes.
        package var byteCount: UInt64
        /// Where the rest starts, in bytes of the scratch.
        package var scratchOffset: UInt64
    }

    /// The volumes that spill, in the order of their rests on the scratch: what is made smaller, then what is made again.
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

    /// Where the volume goes that is made smaller.
    func spill(of shrink: Shrink) -> Spill? { spills.first { $0.front == shrink.range } }

    /// Where the FAT goes that is made again.
    func spill(of remake: Remake) -> Spill? { spills.first { $0.front == remake.front } }

    /// How much room the scratch has for the part of `byteCount` bytes that lies behind its place, in whole sectors of the
    /// target: device-mapper joins nothing else.
    func restByteCount(of byteCount: UInt64, behind place: ByteRange) -> UInt64 {
        let rest = byteCount - min(byteCount, place.byteCount)
        return rest.roundedUp(toMultipleOf: UInt64(geometry.logicalSectorSize)) ?? rest
    }
}

extension RestorePlan.Remake {
    /// Nothing of the captured FAT goes to its place.
    fileprivate var front: ByteRange { range.lowerBound..<range.lowerBound }
}
