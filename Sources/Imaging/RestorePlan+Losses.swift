// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// A used range that the image has lost, or that could not be read from a disk: the target gets zeros.
package struct LostRange: Encodable, Equatable, Sendable {
    /// The partition of the range; `nil` outside all partitions.
    package var partition: Int?
    /// The range on the captured disk, in bytes.
    package var captured: ByteRange
    /// The range on the target, in bytes; `nil` if its filesystem shrinks or is recreated.
    package var target: ByteRange?
}

extension RestorePlan {
    /// The used ranges that the losses of a damaged image leave out on the target, in the order of the captured disk.
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
    /// Why a filesystem with lost ranges cannot shrink, as a sentence; `nil` if its tool checks everything before its
    /// first change, and stops if the filesystem is not clean.
    package var obstacleWithLosses: String? {
        guard !filesystem.traits.checksLossesFirst(filesystem) else { return nil }
        return
            "the filesystem of partition \(number) (\(filesystem.kindName)) cannot be made smaller, as parts of it are lost: restore onto a "
            + "larger disk, or leave it out (--partition \(number)=drop)"
    }
}
