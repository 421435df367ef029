// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ByteParsing
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Shows what a disk, an image or a snapshot holds. Writes nothing.",
        discussion: """
            Examples:

              reforge inspect /dev/sda
              reforge inspect laptop.img.zst --json

            JSON fields: schema (1), kind (disk or image), identity {path, kernelName, model, serial, wwn, transport, \
            diskSequence, pathByPlace}, geometry {byteCount, logicalSectorSize, physicalSectorSize, alignmentOffset, \
            optimalIOSize}, table {kind, unknownKindName, condition, diskGUID}, volumes [{partition, name, typeGUID, type, \
            guid, attributes, offset, byteCount, filesystem {kind, kindName, uuid, label, byteCount, blockSize, isClean, \
            features, mapSource, wholeReason, remarks, inner [{name, byteCount, filesystem, usedByteCount, places}]}, usedByteCount}], boot \
            {biosBootCode, biosCoreImageFound, efiLoaders}, warnings, interruptedRestore {imageUUID, position, byteCount, partition}; for an image also imageID, imageUUID, started, \
            ended, toolVersion, level, chunkByteCount, allSectors, mountedReadWrite, note, tags, host, unreadable, \
            imageByteCount (not of a snapshot).
            """)

    @Argument(help: "A block device, a raw image file, a Reforge image, or a snapshot.") var disk: String
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Believe allocation maps without comparing them with what files use.") var trustMaps = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var luksOptions: LUKSOptions

    func run() throws {
        try CommandRun.run(json: json) {
            let report: InspectReport
            if try isCapture() {
                guard luksOptions.luksKeyFile.isEmpty else {
                    throw JobFailure(.usage, "--luks-key-file opens what is on a disk, not what is in an image")
                }
                report = InspectReport(try OpenedImage.open(disk, KeyRing(keyOptions, Console.events)))
            } else {
                let unlocker = try luksOptions.keys.unlocker()
                let opened = try OpenedDisk(disk, .readOnly, sectorSize: sectorSize?.rawValue)
                let survey = try opened.survey(trustMaps: trustMaps, unlocker: unlocker)
                var found = InspectReport(survey)
                if let known = try opened.knownImage {
                    found.warnings.append(
                        "\(disk) is \(known.name), not a disk: what is shown is how its bytes look as one")
                }
                found.interruptedRestore = try InterruptedRestore(on: opened.device, survey.volumes)
                report = found
                try unlocker?.check(disk)
            }
            if json { try Console.json(report) } else { try Console.result(report.text) }
            return .done
        }
    }

    /// Whether it is an image of ours or a snapshot; a device never is one, and a raw image is looked at as a disk.
    private func isCapture() throws -> Bool {
        if case .snapshot = try ImageAddress.parse(disk, .thisMachine) { return true }
        let path = FilePath(disk)
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", path.string, error) }
        guard status.type == .regular else { return false }
        switch try ImageFileKind.detect(path) {
        case .image, .encryptedImage, .xzImage, .foreignXZ, .foreignZstd: return true
        case .foreignRaw, .unknown: return false
        }
    }
}

/// What `inspect` prints.
struct InspectReport: Encodable {
    struct Volume: Encodable {
        var partition: Int?
        var name: String?
        var typeGUID: GUID?
        var type: String?
        var guid: GUID?
        var attributes: UInt64?
        var offset: UInt64
        var byteCount: UInt64
        var filesystem: FilesystemInfo
        var usedByteCount: UInt64
    }
    struct Table: Encodable {
        var kind: PartitionTable.Kind
        var unknownKindName: String?
        var condition: PartitionTable.Condition
        var diskGUID: GUID?
    }

    var schema = 1
    var kind: String
    var identity: DiskIdentity
    var geometry: DiskGeometry
    var table: Table
    var volumes: [Volume]
    var boot: BootSurvey
    var warnings: [String]
    var imageID: String?
    var imageUUID: GUID?
    var started: String?
    var ended: String?
    var toolVersion: String?
    var level: Int?
    var chunkByteCount: Int?
    var allSectors: Bool?
    var mountedReadWrite: [String]?
    var note: String?
    var tags: [String]?
    var imageByteCount: UInt64?
    var host: String?
    var unreadable: [ByteRange]?
    /// Of a disk onto which a restore did not come to its end.
    var interruptedRestore: InterruptedRestore?

    private static func volume(
        _ range: ByteRange, _ partition: Partition?, _ filesystem: FilesystemInfo, _ used: UInt64
    ) -> Volume {
        Volume(
            partition: partition?.number, name: partition?.name, typeGUID: partition?.typeGUID,
            type: partition?.typeName, guid: partition?.guid,
            attributes: partition?.attributes, offset: range.lowerBound, byteCount: range.byteCount,
            filesystem: filesystem, usedByteCount: used)
    }

    private static func table(_ table: PartitionTable) -> Table {
        Table(
            kind: table.kind, unknownKindName: table.unknownKindName, condition: table.condition,
            diskGUID: table.diskGUID)
    }

    /// Of a disk.
    init(_ survey: DiskSurvey) {
        kind = "disk"
        identity = survey.identity
        geometry = survey.geometry
        table = Self.table(survey.table)
        volumes = survey.volumes.map { Self.volume($0.range, $0.partition, $0.filesystem, $0.allocation.usedByteCount) }
        boot = survey.boot
        warnings = survey.warnings
    }

    /// Of an image.
    init(_ input: OpenedImage) {
        let manifest = input.reader.header.manifest
        kind = input.snapshot == nil ? "image" : "snapshot"
        identity = manifest.disk
        geometry = manifest.geometry
        table = Self.table(manifest.table)
        volumes = manifest.regions.compactMap { region in
            guard region.kind != .gap, let filesystem = region.filesystem else { return nil }
            return Self.volume(
                region.range, manifest.table.partitions.first { $0.number == region.partition }, filesystem,
                region.usedByteCount)
        }
        boot = manifest.boot
        warnings = manifest.warnings
        if let ending = input.ending {
            warnings += ending.lateFacts.warnings + manifest.unreadableTexts(ending.lateFacts.unreadable)
            imageID = ending.id.description
            ended = ending.lateFacts.ended
            unreadable = ending.lateFacts.unreadable
        }
        host = input.snapshot?.info.host ?? manifest.machine.hostName
        imageUUID = manifest.imageUUID
        started = manifest.started
        toolVersion = manifest.toolVersion
        level = manifest.level
        chunkByteCount = manifest.chunkByteCount
        allSectors = manifest.allSectors
        mountedReadWrite = manifest.mountedReadWrite
        note = manifest.note
        tags = manifest.tags
        imageByteCount = input.byteCount
    }

    /// For a person.
    var text: String {
        var lines: [String] = []
        let title = [identity.model, identity.serial.map { "serial \($0)" }, identity.wwn.map { "WWN \($0)" }]
            .compactMap { $0 }
        lines.append(
            "\(kind == "disk" ? "Disk" : kind == "image" ? "Image of" : "Snapshot of") \(identity.path)\(title.isEmpty ? "" : ": " + title.joined(separator: ", "))"
        )
        lines.append(
            "  \(ByteText.rounded(geometry.byteCount)) (\(geometry.byteCount) bytes), sectors of \(geometry.logicalSectorSize)/"
                + "\(geometry.physicalSectorSize) bytes, attached by \(identity.transport)")
        if let imageID {
            lines.append(
                "  \(kind) id \(imageID.prefix(16))…\(imageByteCount.map { ", \(ByteText.rounded($0))" } ?? "")\(host.map { ", host \($0)" } ?? ""), made \(started ?? "?") by reforge \(toolVersion ?? "?")"
            )
            if let note, !note.isEmpty { lines.append("  note: \(note)") }
        }
        if let interruptedRestore {
            lines.append(
                interruptedRestore.partition == nil
                    ? "  \(interruptedRestore): it boots nothing; the same restore goes on"
                    : "  \(interruptedRestore): it holds no filesystem; the same restore does it anew")
        }
        switch table.kind {
        case .gpt:
            lines.append("  partition table: GPT\(table.condition == .intact ? "" : " (\(table.condition.rawValue))")")
        case .mbr: lines.append("  partition table: MBR")
        case .none: lines.append("  no partition table")
        case .unknown:
            lines.append("  partition table: \(table.unknownKindName ?? "unknown"), treated as one raw region")
        }
        let rows = volumes.flatMap { volume in
            [
                [
                    volume.partition.map(String.init) ?? "-", ByteText.rounded(volume.byteCount), volume.type ?? "-",
                    volume.filesystem.kindName, volume.filesystem.label ?? "", volume.filesystem.uuid ?? "",
                    ByteText.rounded(volume.usedByteCount), TextTable.known(volume.filesystem),
                ]
            ] + TextTable.innerRows(volume.filesystem, indent: "  ")
        }
        lines += TextTable.lines(["#", "SIZE", "TYPE", "HOLDS", "LABEL", "UUID", "USED", "HOW KNOWN"], rows).map {
            "  " + $0
        }
        for volume in volumes {
            for remark in volume.filesystem.remarks { lines.append("  partition \(volume.partition ?? 0): \(remark)") }
        }
        var boots: [String] = []
        if let code = boot.biosBootCode {
            boots.append(
                "BIOS (\(code)\(boot.biosCoreImageFound.map { $0 ? ", core image found" : ", core image not found" } ?? ""))"
            )
        }
        boots += boot.efiLoaders.map { "UEFI \($0)" }
        lines.append("  boots by: \(boots.isEmpty ? "nothing found" : boots.joined(separator: ", "))")
        lines += warnings.map { "  warning: \($0)" }
        return lines.joined(separator: "\n")
    }
}
