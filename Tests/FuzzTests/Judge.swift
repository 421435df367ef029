// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskEditing
import DiskModel
import Filesystems
import FoundationEssentials
import ImageModel
import SystemAccess
import TestSupport

@testable import Imaging

/// The requirements for a reader of hostile bytes: no trap, and a valid answer. One judge for each kind of input;
/// Tests/Fuzz feeds them, and `ReplayTests` repeats former failures.
struct Judge: Sendable {
    /// Also the prefix of the names of the files in `Inputs`, up to the first hyphen.
    let name: String
    /// Throws `Verdict` for a wrong answer. The bytes themselves may have any content.
    let run: @Sendable (any BlockReader) throws -> Void

    /// Why an answer is wrong.
    struct Verdict: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    static func demand(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        guard condition else { throw Verdict(what()) }
    }

    /// The formats of volumes, which share one judge, then all that have their own.
    static let all: [Judge] =
        [
            "ext", "fat", "exfat", "swap", "ntfs", "bitlocker", "xfs", "btrfs", "f2fs", "lvm", "raid", "luks",
        ].map { Judge(name: $0, run: volume) }
        + [
            Judge(name: "gpt", run: disk), Judge(name: "mbr", run: disk), Judge(name: "esp", run: systemPartition),
            Judge(name: "journal", run: journal), Judge(name: "fstab", run: fstab),
            Judge(name: "grub", run: grubConfiguration), Judge(name: "nvram", run: bootEntries),
            Judge(name: "manifest", run: manifest), Judge(name: "image", run: image),
            Judge(name: "encrypted", run: image), Judge(name: "repository", run: repository),
            Judge(name: "piece", run: piece), Judge(name: "virtual", run: virtual),
            Judge(name: "nbdserver", run: nbdServer), Judge(name: "nbdclient", run: nbdClient),
            Judge(name: "clonezilla", run: clonezilla), Judge(name: "fog", run: fog),
            Judge(name: "lvmtext", run: volumeGroupText), Judge(name: "bmap", run: blockMap),
            Judge(name: "partclone", run: partclone), Judge(name: "initramfs", run: initramfs),
            Judge(name: "program", run: efiProgram), Judge(name: "modules", run: kernelModules),
            Judge(name: "hive", run: systemHive), Judge(name: "bcd", run: bootStore),
            Judge(name: "entries", run: loaderEntries), Judge(name: "agent", run: agentFrame),
        ]

    /// A volume of any kind.
    static func volume(_ reader: any BlockReader) throws {
        let (info, map) = try VolumeIdentifier.survey(reader)
        try check(info, map, byteCount: reader.byteCount)
        if info.kind == .ntfs { try placedFiles(reader) }
        guard info.kind == .ntfs, info.mapSource == .allocationStructures else { return }
        let (rest, part) = try VolumeIdentifier.survey(reader, skipPageFiles: true)
        try check(rest, part, byteCount: reader.byteCount)
        try demand(part.isSubset(of: map), "without page files, more is in use")
    }

    /// The map is inside the volume, its ranges ascend without touching, and a whole map has a reason.
    static func check(_ info: FilesystemInfo, _ map: AllocationMap, byteCount: UInt64) throws {
        try demand(map.byteCount == byteCount, "a map of \(map.byteCount) bytes for \(byteCount)")
        var end: UInt64?
        for range in map.ranges {
            try demand(!range.isEmpty && end.map { $0 < range.lowerBound } ?? true, "the range \(range) of a map")
            end = range.upperBound
        }
        try demand(end ?? 0 <= byteCount, "a map that ends at \(end ?? 0) of \(byteCount)")
        try check(info)
        if info.mapSource == .whole { try demand(map.usedByteCount == byteCount, "whole, but not all in use") }
    }

    private static func check(_ info: FilesystemInfo) throws {
        try demand(
            (info.mapSource == .whole) == (info.wholeReason != nil), "\(info.mapSource), \(info.wholeReason ?? "-")")
        for volume in info.inner ?? [] { try check(volume.filesystem) }
    }

    /// A whole disk: its table, its volumes, its boot code, and the data that a capture would store.
    static func disk(_ reader: any BlockReader) throws {
        let geometry = DiskGeometry(byteCount: reader.byteCount, logicalSectorSize: reader.logicalSectorSize)
        let survey = try DiskSurveyor.survey(reader, identity: DiskIdentity(path: "hostile"), geometry: geometry)
        var position: UInt64 = 0
        for volume in survey.volumes {
            try demand(
                volume.range.lowerBound >= position && volume.range.upperBound <= reader.byteCount,
                "a volume at \(volume.range)")
            try check(volume.filesystem, volume.allocation, byteCount: volume.range.byteCount)
            position = volume.range.upperBound
        }
        let boot = survey.volumes.compactMap { BootVolume($0, of: survey.table) }
        _ = try GrubBIOSReader.read(reader, volumes: boot)
        for volume in boot where volume.isESP { readLoaders(reader, volume) }
        let table = try CapturedTable(reading: reader, table: survey.table)
        let plan = CapturePlanner.plan(
            survey, tableBytes: table, options: CaptureOptions(),
            machine: .init(architecture: "x86_64", firmware: "bios"),
            mounted: [], toolVersion: "0", started: "2026-01-02T03:04:05Z", localOffsetSeconds: 0)
        // The stored form of any disk must be readable again.
        guard reader.byteCount <= 1 << 60 else { return }
        var header = plan.header
        // Up to 2 MiB that no decision depends on: checking them would take most of the time.
        header.manifest.tableHead.removeAll()
        header.manifest.tableTail.removeAll()
        try checkPlans(of: header, "a capture of this disk")
    }

    /// An EFI system partition: a FAT whose folders are walked and whose loaders are read.
    static func systemPartition(_ reader: any BlockReader) throws {
        try volume(reader)
        guard let guid = anyGUID else { return }
        readLoaders(
            reader,
            BootVolume(
                number: 1, range: 0..<reader.byteCount, typeGUID: guid, guid: guid, kind: .fat32, kindName: "vfat"))
        try remake(reader)
    }

    private static func readLoaders(_ reader: any BlockReader, _ volume: BootVolume) {
        _ = GrubEFIFinding(ESPReader.read(reader, volume: volume, configurations: ["grub.cfg"]))
    }

    /// A FAT recreated for another sector size has the same files.
    private static func remake(_ reader: any BlockReader) throws {
        let byteCount = 8 << 20
        guard let volume = try? FATVolume(reader),
            let layout = FATLayout(volumeByteCount: UInt64(byteCount), sectorSize: 4096, preferring: .fat16),
            let remake = try? FATRemake(of: volume, layout: layout, hiddenSectors: 0)
        else { return }
        let target = MemoryDisk(byteCount: byteCount, logicalSectorSize: 4096)
        do {
            try remake.run {
                try target.writeBytes($0, at: $1)
            } zero: {
                try target.writeZeros($0)
            }
            try demand(try remake.isThere(try FATVolume(target)), "a recreated FAT has other contents")
        } catch is FilesystemError { return }
    }

    /// The journal of a restore, in the first MiB of a target.
    static func journal(_ reader: any BlockReader) throws {
        guard var journal = RestoreJournal.read(reader) else { return }
        try demand(RestoreJournal(slot: journal.slot) == journal, "a journal that is not read as it is written")
        let slots = try RestoreJournal.slotOffsets.map { try reader.readBytes(at: $0, count: 4096) }
        try demand(slots.contains { RestoreJournal(slot: $0) == journal }, "a journal that is in no slot")
        try journal.write(to: MemoryDisk(byteCount: Int(clamping: min(reader.byteCount, 4 << 20))))
    }
}
