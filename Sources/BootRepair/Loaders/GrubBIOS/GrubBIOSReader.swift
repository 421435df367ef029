// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

/// Follows the BIOS boot chain on the disk: block 0, core.img, its block list.
package enum GrubBIOSReader {
    /// The part of a BIOS boot partition searched for a core.img that is not at its start.
    private static let searchedByteCount: UInt64 = 8 << 20

    /// Reads the chain.
    /// - Parameter installedCore: the bytes of the installed system's /boot/grub/i386-pc/core.img, if it has one.
    package static func read(
        _ disk: any BlockReader, volumes: [BootVolume], installedCore: [UInt8]? = nil
    ) throws(BlockIOError) -> GrubBIOSFinding {
        guard disk.byteCount >= 512, let block = GrubBootSector(try disk.readBytes(at: 0, count: 512)) else {
            return GrubBIOSFinding(chain: .absent)
        }
        let partition = volumes.first(where: \.isBIOSBoot)
        var survey = GrubBIOSFinding(chain: .absent, bootCode: block.kind, biosBootPartition: partition?.number)
        if block.kind == .other {
            survey.chain = .foreign
            return survey
        }
        // First the sector in the boot code, else the usual place of core.img.
        var place: UInt64?
        if let sector = block.coreSector, try isCore(disk, sector, in: nil) { place = sector }
        if place == nil, let partition { place = try search(disk, partition.range) }
        guard let place else {
            if block.kind == .grub {
                survey.chain = .noCoreImage
                survey.problem = "the boot code points to sector \(block.coreSector ?? 0), which holds no core.img"
            } else if partition != nil {
                survey.chain = .noCoreImage
                survey.problem = "there is a BIOS boot partition, but neither boot code nor core.img"
            }
            return survey
        }
        let first = try disk.readBytes(at: place * 512, count: 512)
        let blocks = GrubCoreImage.blocks(inFirstSector: first)
        let container = volumes.first { $0.range.contains(place * 512) }?.range
        let end = (container?.upperBound ?? disk.byteCount) / 512
        survey.coreSector = place
        let length = blocks.reduce(1 as UInt64) { $0 + UInt64($1.count) }
        survey.coreSectorCount = length
        survey.coreBlockCount = blocks.count
        let listProblem = GrubCoreImage.problem(ofBlocks: blocks, start: place, end: end)
        if block.kind == .none {
            survey.chain = .noBootCode
            survey.problem = "block 0 holds no boot code"
        } else if block.coreSector != place {
            survey.chain = .misdirected
            survey.problem = "the boot code points to sector \(block.coreSector ?? 0); core.img is at \(place)"
        } else if let listProblem {
            survey.chain = .misdirected
            survey.problem = "core.img is at sector \(place), but \(listProblem)"
        } else {
            survey.chain = .right
        }
        if blocks.isEmpty || length > end - place {
            survey.chain = .noCoreImage
            survey.problem = "core.img at sector \(place) is damaged"
        } else if let installedCore, length <= 1 << 16 {
            let bytes = try disk.readBytes(at: place * 512, count: Int(length) * 512)
            survey.isInstalledCore = GrubCoreImage.isSame(onDisk: bytes, asFile: installedCore)
        }
        return survey
    }

    private static func isCore(
        _ disk: any BlockReader, _ sector: UInt64, in range: ByteRange?
    ) throws(BlockIOError) -> Bool {
        guard sector > 0, sector < disk.byteCount / 512 else { return false }
        return GrubCoreImage.isFirstSector(try disk.readBytes(at: sector * 512, count: 512))
    }

    private static func search(_ disk: any BlockReader, _ range: ByteRange) throws(BlockIOError) -> UInt64? {
        let end = min(range.upperBound, range.lowerBound + searchedByteCount, disk.byteCount)
        guard range.lowerBound < end else { return nil }
        let bytes = try disk.readBytes(at: range.lowerBound, count: Int(end - range.lowerBound))
        for offset in stride(from: 0, to: bytes.count - 511, by: 512)
        where GrubCoreImage.isFirstSector(Array(bytes[offset..<offset + 512])) {
            return range.lowerBound / 512 + UInt64(offset / 512)
        }
        return nil
    }
}
