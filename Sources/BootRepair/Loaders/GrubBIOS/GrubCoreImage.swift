// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// One run of a block list: the sectors of a part of core.img, and its load address.
package struct GrubBlock: Codable, Equatable, Sendable {
    /// The first sector, in units of 512 bytes.
    package var sector: UInt64
    /// The number of sectors.
    package var count: UInt16
    /// The real-mode segment to load it to.
    package var segment: UInt16

    /// Describes a run.
    package init(sector: UInt64, count: UInt16, segment: UInt16) {
        self.sector = sector
        self.count = count
        self.segment = segment
    }
}

/// GRUB's core.img for BIOS. Its first sector (diskboot.img) loads the rest by the block list at its end (grub 2.06,
/// include/grub/offsets.h: GRUB_BOOT_MACHINE_LIST_SIZE 12, GRUB_BOOT_MACHINE_KERNEL_SEG 0x800).
package struct GrubCoreImage: Equatable, Sendable {
    /// Texts in the first sector (diskboot.S).
    private static let marks = ["loading", "Geom", "Read"]
    /// The first entry; the list grows downwards, and an entry of count 0 ends it.
    private static let firstEntryOffset = 512 - 12
    private static let entryByteCount = 12
    /// The strings of diskboot.img end well below this: no entry can be lower.
    private static let lowestEntryOffset = 512 - 12 * 16
    /// The segment of the second sector.
    private static let firstSegment: UInt16 = 0x820
    /// In the second sector: sizes filled in by grub-install, and redundancy it may add (GRUB_DECOMPRESSOR_I386_PC_*).
    private static let patchedByInstall = 512..<512 + 0x20

    /// Whether 512 bytes are the first sector of a core.img.
    package static func isFirstSector(_ bytes: [UInt8]) -> Bool {
        bytes.count >= 512 && marks.allSatisfy { bytes.prefix(512).contains(Array($0.utf8)) }
    }

    /// The block list in the first sector.
    package static func blocks(inFirstSector bytes: [UInt8]) -> [GrubBlock] {
        var blocks: [GrubBlock] = []
        var offset = firstEntryOffset
        while offset >= lowestEntryOffset, bytes.count >= 512,
            let sector = try? bytes.littleEndian(UInt64.self, at: offset),
            let count = try? bytes.littleEndian(UInt16.self, at: offset + 8), count > 0,
            let segment = try? bytes.littleEndian(UInt16.self, at: offset + 10)
        {
            blocks.append(GrubBlock(sector: sector, count: count, segment: segment))
            offset -= entryByteCount
        }
        return blocks
    }

    /// The reason a block list does not load a contiguous core image starting at `start`; `nil` if it does.
    package static func problem(ofBlocks blocks: [GrubBlock], start: UInt64, end: UInt64) -> String? {
        guard !blocks.isEmpty else { return "its block list is empty" }
        var sector = start + 1
        var segment = firstSegment
        for block in blocks {
            guard block.sector == sector else {
                return "its block list points to sector \(block.sector) instead of sector \(sector)"
            }
            guard block.segment == segment else { return "its block list loads to the wrong place" }
            let (next, overflow) = sector.addingReportingOverflow(UInt64(block.count))
            guard !overflow, next <= end else { return "its block list leads out of the partition" }
            sector = next
            segment &+= block.count &* 0x20
        }
        return nil
    }

    /// The patches that make the block list a single run, directly after the first sector.
    /// - Parameters:
    ///   - start: the future position of the first sector.
    ///   - blockCount: the current number of runs.
    static func patches(at start: UInt64, blockCount: Int = 1) -> [SectorRun.Patch] {
        // The end mark, and the former entries below it.
        let end = max(firstEntryOffset - max(blockCount, 1) * entryByteCount, lowestEntryOffset)
        var sector: [UInt8] = []
        sector.appendLittleEndian(start + 1)
        var segment: [UInt8] = []
        segment.appendLittleEndian(firstSegment)
        return [
            SectorRun.Patch(at: end, .bytes([UInt8](repeating: 0, count: firstEntryOffset - end))),
            SectorRun.Patch(at: firstEntryOffset, .bytes(sector)),
            SectorRun.Patch(at: firstEntryOffset + 8, .followingSectorCount),
            SectorRun.Patch(at: firstEntryOffset + 10, .bytes(segment)),
        ]
    }

    /// A core.img from a file, prepared for its position: whole sectors, and a block list for `start`.
    static func run(from source: SectorRun.Source, at start: UInt64, endSector: UInt64) -> SectorRun {
        SectorRun(
            sector: start, endSector: endSector, source: source,
            // More than the first sector, which loads the rest.
            requirement: SectorRun.Requirement(byteCounts: 513...Int.max, texts: marks, within: 512),
            patches: patches(at: start),
            unsuitable: "the core.img for block 0 is damaged", tooLong: "core.img does not fit the place for it")
    }

    /// Whether the bytes on the disk are the core.img of a file: equal except for the fields filled in by grub-install,
    /// and possibly followed by redundancy.
    package static func isSame(onDisk: [UInt8], asFile file: [UInt8]) -> Bool {
        guard file.count > patchedByInstall.upperBound, onDisk.count >= file.count else { return false }
        return onDisk[patchedByInstall.upperBound..<file.count].elementsEqual(file[patchedByInstall.upperBound...])
    }
}
