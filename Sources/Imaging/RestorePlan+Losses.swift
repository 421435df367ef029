// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// A range in use that the image has lost: the target gets zeros.
package struct LostRange: Encodable, Equatable, Sendable {
    /// The partition that it lies in; `nil` outside of all.
    package var partition: Int?
    /// Where it lay on the captured disk, in bytes.
    package var captured: ByteRange
    /// Where it lies on the target, in bytes; `nil` where its filesystem is made smaller, or anew.
    package var target: ByteRange?
}

extension RestorePlan {
    /// What of a damaged image's losses the target misses, in the order of the captured disk.
    package func lostRanges(_ losses: [Salvage.Loss], _ header: ImageHeader) -> [LostRange] {
        var result: [LostRange] = []
        for range in header.used(losses.map(\.range)) {
            guard let index = header.manifest.regions.firstIndex(where: { $0.range.covers(range) }),
                destinations[index] != .skipped
            else { continue }
            let region = header.manifest.regions[index]
            var lost = LostRange(partition: region.partition, captured: range)
            if case .disk(let offset) = destinations[index] {
                let start = offset + (range.lowerBound - region.range.lowerBound)
                lost.target = start..<start + range.byteCount
            }
            result.append(lost)
        }
        return result
    }
}

extension RestorePlan.Shrink {
    /// Why it cannot be done where parts of the filesystem are lost, as a sentence; `nil` where its tool checks everything
    /// before it changes anything, and ends where that is not clean.
    package var obstacleWithLosses: String? {
        guard !filesystem.traits.checksLossesFirst(filesystem) else { return nil }
        return
            "the filesystem of partition \(number) (\(filesystem.kindName)) cannot be made smaller, as parts of it are lost: restore onto a "
            + "larger disk, or leave it out (--partition \(number)=drop)"
    }
}
