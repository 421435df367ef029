// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The output of `inspect`.
package struct InspectReport: Encodable {
    package struct Volume: Encodable {
        package var partition: Int?
        package var name: String?
        package var typeGUID: GUID?
        package var type: String?
        package var guid: GUID?
        package var attributes: UInt64?
        package var offset: UInt64
        package var byteCount: UInt64
        package var filesystem: FilesystemInfo
        package var usedByteCount: UInt64
    }
    package struct Table: Encodable {
        package var kind: PartitionTable.Kind
        package var unknownKindName: String?
        package var condition: PartitionTable.Condition
        package var diskGUID: GUID?
    }

    package var schema = 1
    package var kind: String
    package var identity: DiskIdentity
    package var geometry: DiskGeometry
    package var table: Table
    package var volumes: [Volume]
    package var boot: BootSurvey
    package var warnings: [String]
    package var imageID: String?
    package var imageUUID: GUID?
    package var started: String?
    package var ended: String?
    package var toolVersion: String?
    package var level: Int?
    package var chunkByteCount: Int?
    package var allSectors: Bool?
    package var mountedReadWrite: [String]?
    package var note: String?
    package var tags: [String]?
    package var imageByteCount: UInt64?
    package var host: String?
    package var unreadable: [ByteRange]?
    /// What the last trial restore of an image or snapshot showed.
    package var proof: RestoreProof.Facts?
    /// The interrupted restore on a disk.
    package var interruptedRestore: InterruptedRestore?

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

    /// A report on a disk.
    package init(_ survey: DiskSurvey) {
        kind = "disk"
        identity = survey.identity
        geometry = survey.geometry
        table = Self.table(survey.table)
        volumes = survey.volumes.map { Self.volume($0.range, $0.partition, $0.filesystem, $0.allocation.usedByteCount) }
        boot = survey.boot
        warnings = survey.warnings
    }

    /// A report on an image.
    package init(_ input: OpenedImage) {
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

    /// The report as text.
    package var text: String {
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
        if let proof { lines.append("  \(proof.line)") }
        if let interruptedRestore {
            lines.append(
                interruptedRestore.partition == nil
                    ? "  \(interruptedRestore): it boots nothing; the same restore continues it"
                    : "  \(interruptedRestore): it holds no filesystem; the same restore rewrites it")
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
