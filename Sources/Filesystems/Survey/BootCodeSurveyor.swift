// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Determines how a disk boots, according to its own bytes.
struct BootCodeSurveyor {
    let disk: any BlockReader

    func survey(_ volumes: [VolumeSurvey]) throws(BlockIOError) -> BootSurvey {
        var survey = BootSurvey()
        if disk.byteCount >= 512, let record = MasterBootRecord(try disk.readBytes(at: 0, count: 512)),
            record.bootCode.contains(where: { $0 != 0 })
        {
            if Self.contains(record.bootCode, "GRUB") {
                survey.biosBootCode = "GRUB"
                survey.biosCoreImageFound = coreImageIsFound(record.bootCode)
            } else {
                survey.biosBootCode = "other"
            }
        }
        for volume in volumes where Self.isSystemPartition(volume) {
            guard let slice = BlockSlice(disk, range: volume.range) else { continue }
            survey.efiLoaders += LoaderSearch(slice).loaders()
        }
        return survey
    }

    private static func isSystemPartition(_ volume: VolumeSurvey) -> Bool {
        guard let partition = volume.partition else { return volume.filesystem.isFAT }
        return partition.typeGUID.description == PartitionType.efiSystem
    }

    /// GRUB's boot.img contains the first sector of core.img (grub-core/boot/i386/pc/boot.S, kernel_sector at
    /// 0x5c), which is diskboot.img: it contains "loading" and ends in a list whose first entry loads to
    /// segment 0x820 (diskboot.S).
    private func coreImageIsFound(_ bootCode: [UInt8]) -> Bool {
        guard let sector: UInt64 = try? bootCode.littleEndian(at: 0x5C), sector > 0 else { return false }
        let (offset, overflow) = sector.multipliedReportingOverflow(by: UInt64(clamping: disk.logicalSectorSize))
        guard !overflow, let core = try? disk.readBytes(at: offset, count: 512) else { return false }
        let segment: UInt16? = try? core.littleEndian(at: 512 - 2)
        return Self.contains(core, "loading") && Self.contains(core, "Geom") && segment == 0x820
    }

    private static func contains(_ bytes: [UInt8], _ text: String) -> Bool {
        let wanted = Array(text.utf8)
        guard bytes.count >= wanted.count else { return false }
        return (0...bytes.count - wanted.count).contains { bytes[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}

/// Searches an EFI system partition for loaders, within a budget: a folder may contain itself.
private struct LoaderSearch {
    private static let depthLimit = 8
    private var foldersLeft = 256
    private var entriesLeft = 16_384
    private var found: [String] = []
    private let volume: FATVolume?

    init(_ reader: any BlockReader) { volume = try? FATVolume(reader) }

    consuming func loaders() -> [String] {
        guard let volume, let root = try? volume.rootEntries() else { return [] }
        visit(root, "", depth: 0, volume)
        return found.sorted()
    }

    private mutating func visit(_ entries: [FATEntry], _ path: String, depth: Int, _ volume: FATVolume) {
        for entry in entries {
            guard entriesLeft > 0 else { return }
            entriesLeft -= 1
            let place = "\(path)\\\(entry.name)"
            if !entry.isFolder {
                if entry.name.lowercased().hasSuffix(".efi") { found.append(place) }
            } else if depth < Self.depthLimit, foldersLeft > 0 {
                foldersLeft -= 1
                // An unreadable folder only hides its loaders.
                if let inner = try? volume.entries(of: entry) { visit(inner, place, depth: depth + 1, volume) }
            }
        }
    }
}
