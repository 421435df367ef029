// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

extension HiddenSectors {
    /// Corrects the hidden-sectors field in the boot sectors of restored FAT and NTFS volumes.
    /// - Parameter log: receives a line for each boot sector.
    static func follow(
        _ plan: RestorePlan, of manifest: Manifest, on writer: TargetWriter, log: (String) -> Void
    ) throws {
        let sectorSize = manifest.geometry.logicalSectorSize
        let newSectorSize = plan.geometry.logicalSectorSize
        for placement in plan.placements ?? [] where placement.isMoved || sectorSize != newSectorSize {
            if plan.remakes.contains(where: { $0.number == placement.number }) { continue }
            guard let region = manifest.regions.first(where: { $0.partition == placement.number }),
                let filesystem = region.filesystem
            else { continue }
            let start = placement.to.lowerBound
            let length = min(placement.from.byteCount, placement.to.byteCount)
            guard length >= 512 else { continue }
            let first = try writer.readBytes(at: start, count: 512)
            for offset in bootSectors(first, filesystem, volumeByteCount: length) {
                let moved = Self.moved(
                    try writer.readBytes(at: start + offset, count: 512), from: placement.from.lowerBound, to: start,
                    sectorSize: sectorSize, newSectorSize: newSectorSize)
                guard let moved else { continue }
                try moved.withUnsafeBytes { try writer.write($0, at: start + offset) }
                log("the boot sector of partition \(placement.number) was set to its new place")
            }
        }
    }
}
