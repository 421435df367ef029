// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import ImageModel
import LinuxSystem
import SystemPackage

/// A folder of Clonezilla or Rescuezilla: a list of disks and partitions, the table of each disk as texts, and an image
/// of each volume.
struct ClonezillaFolder {
    let folder: ForeignFolder
    let contents: ClonezillaContents

    init(_ path: FilePath) throws(ImageError) {
        folder = try ForeignFolder(path)
        contents = ClonezillaContents(folder: folder)
        for (name, program) in [("ecryptfs.info", "eCryptfs"), ("gocryptfs.info", "gocryptfs")]
        where folder.has(name) {
            throw folder.refusal(
                "it is encrypted by \(program). Mount it with that program, and name the folder with the readable files"
            )
        }
    }

    static func isFolder(_ path: FilePath) -> Bool {
        guard let isFolder = try? Files.status(path)?.isFolder, isFolder, let folder = try? ForeignFolder(path) else {
            return false
        }
        if ["clonezilla-img", "ecryptfs.info", "gocryptfs.info"].contains(where: folder.has) { return true }
        return folder.has("parts")
            && folder.names.contains { $0.hasSuffix("-pt.sf") || $0.contains("-ptcl-img") || $0.contains("dd-img") }
    }

    /// The kernel's names of the disks: from the list, which `saveparts` does not write, else from the tables and the
    /// list of partitions.
    func disks() throws(ImageError) -> [String] {
        let listed = try folder.lines("disk").flatMap { $0 }
        let tables = folder.names.filter { $0.hasSuffix("-pt.sf") }.map { String($0.dropLast(6)) }
        guard listed.isEmpty else {
            // A list that was cut off must not lose a disk in silence.
            let files = Set(listed.map(Self.file))
            return unique(
                listed + tables.filter { !files.contains($0) && !contents.numbers(after: Self.prefix($0)).isEmpty })
        }
        var disks: [String] = []
        for part in try folder.lines("parts").flatMap({ $0 }) {
            let parent = Self.disk(of: part)
            let file = ClonezillaContents.fileName(parent)
            // A bare disk has the partition's place in the list, and may end with a digit.
            let isBare = !tables.contains(file) && folder.names.contains { $0.hasPrefix("\(Self.file(part)).") }
            if tables.contains(file) || isBare { disks.append(isBare ? part : parent) }
        }
        let found = Set(disks.map(ClonezillaContents.fileName))
        return unique(disks + tables.filter { !found.contains($0) })
    }

    private static func file(_ device: String) -> String { ClonezillaContents.fileName(device) }

    /// What is before the number in the names of a disk's partitions.
    private static func prefix(_ disk: String) -> String { disk.last?.isNumber == true ? disk + "p" : disk }

    private func unique(_ names: [String]) -> [String] {
        var seen: Set<String> = []
        return names.filter { seen.insert($0).inserted }
    }

    /// The disk of a partition, by the kernel's rules: `sda3`, `nvme0n1p3`, `cciss/c0d0p1`.
    static func disk(of partition: String) -> String {
        let base = partition.reversed().drop { $0.isASCII && $0.isNumber }
        guard base.count < partition.count, !base.isEmpty else { return partition }
        if base.first == "p", base.dropFirst().first?.isNumber == true { return String(base.dropFirst().reversed()) }
        return String(base.reversed())
    }

    /// One of its disks.
    func disk(_ name: String) throws(ImageError) -> ForeignDisk {
        guard try disks().contains(name) else {
            throw .missing("\(folder.path) has no disk \(name): it has \(try disks().joined(separator: ", "))")
        }
        let file = Self.file(name)
        let facts = try ClonezillaDiskFacts(name, file: file, in: folder)
        guard let table = try table(name, file, facts) else { return try bareDisk(name, facts) }
        var warnings: [String] = []
        let sectorSize = table.sectorSize ?? facts.logicalSectorSize ?? 512
        if let other = facts.logicalSectorSize, other != sectorSize {
            throw folder.refusal("its lists disagree about the sector size of \(name): \(sectorSize) or \(other) bytes")
        }
        let least = table.leastSectors(UInt64(sectorSize)).multipliedReportingOverflow(by: UInt64(sectorSize))
        guard !least.overflow else { throw folder.damage("\(file)-pt.sf", "its numbers are too large to be true") }
        if facts.byteCount == nil {
            warnings.append("the length of \(name) was not saved: it is taken for as long as its partitions need")
        }
        let geometry = DiskGeometry(
            byteCount: facts.byteCount ?? least.partialValue, logicalSectorSize: sectorSize,
            physicalSectorSize: max(sectorSize, facts.physicalSectorSize ?? sectorSize))
        var builder = builder(name, facts, geometry)
        try addTable(table, name, file, to: &builder)
        warnings.forEach { builder.warn($0) }
        for entry in table.entries where table.kind == .gpt || !entry.isExtended {
            let range = entry.start * UInt64(sectorSize)..<entry.end * UInt64(sectorSize)
            try add(entry.device, at: range, to: &builder)
        }
        try refuseStrays(name, file, table)
        return try builder.finish()
    }

    /// A list of partitions that was cut off, or changed, must not lose partitions in silence.
    private func refuseStrays(_ name: String, _ file: String, _ table: ForeignTable) throws(ImageError) {
        let prefix = Self.prefix(name)
        var devices = contents.numbers(after: Self.file(prefix)).map { "\(prefix)\($0)" }
        devices += try folder.lines("parts").flatMap { $0 }
        for (list, column) in [("dev-fs.list", 0), ("lvm_vg_dev.list", 1), ("luks-dev.list", 0)] {
            devices += try folder.lines(list).filter { $0.count > column }.map { Self.kernelName($0[column]) }
        }
        let known = Set(table.entries.map(\.device))
        let strays = devices.filter { $0 != name && Self.disk(of: $0) == name && !known.contains($0) }
        guard let stray = strays.min() else { return }
        throw folder.refusal(
            "\(file)-pt.sf does not list \(stray), of which the folder has more: the list of partitions is damaged or "
                + "belongs to another image. Take it from the original folder")
    }

    private func builder(_ name: String, _ facts: ClonezillaDiskFacts, _ geometry: DiskGeometry) -> ForeignDiskBuilder {
        let identity = DiskIdentity(
            path: folder.path.string, kernelName: name, model: facts.model, serial: facts.serial, wwn: facts.wwn,
            transport: "file")
        var builder = ForeignDiskBuilder(folder, format: "Clonezilla", geometry: geometry, identity: identity)
        let sums = folder.names.filter { $0.hasSuffix("SUMS") }
        if !sums.isEmpty {
            builder.warn("\(sums.joined(separator: ", ")) is not read: use its own program to check the files by it")
        }
        return builder
    }

    // MARK: the table

    /// The table: from sfdisk's dump, or from the saved first sectors where an old sfdisk did not know GPT.
    private func table(
        _ name: String, _ file: String, _ facts: ClonezillaDiskFacts
    ) throws(ImageError) -> ForeignTable? {
        let unit = facts.logicalSectorSize ?? 512
        let geometry = DiskGeometry(byteCount: facts.byteCount ?? 1 << 60, logicalSectorSize: unit)
        let first = try folder.bytes("\(file)-gpt-1st")
        let saved = first.flatMap { ForeignTable(gptHead: $0, geometry: geometry, disk: name) }
        guard let text = try folder.text("\(file)-pt.sf"), text.contains(where: { !$0.isWhitespace }) else {
            return saved
        }
        let table: ForeignTable
        do { table = try ForeignTable(sfdisk: text) } catch { throw folder.damage("\(file)-pt.sf", error.description) }
        // Before 2.26, sfdisk showed a GPT as its protective MBR.
        if table.kind == .mbr, table.entries.count == 1, table.entries[0].typeByte == 0xEE {
            guard let saved else {
                throw folder.refusal("\(name) has a GPT, and \(file)-gpt-1st, where it is saved, is missing or damaged")
            }
            return saved
        }
        return table.kind == .mbr && table.entries.isEmpty && table.signature == nil ? nil : table
    }

    private func addTable(
        _ table: ForeignTable, _ name: String, _ file: String, to builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        var table = table
        if table.kind == .gpt, let first = try folder.bytes("\(file)-gpt-1st"),
            let saved = ForeignTable(gptHead: first, geometry: builder.disk.geometry, disk: name),
            let warning = table.complete(from: saved)
        {
            builder.warn("\(name): \(warning)")
        }
        var sources = ForeignTable.MBRSources(record: try folder.bytes("\(file)-mbr"))
        if table.kind == .mbr {
            sources.hidden = try folder.bytes("\(file)-hidden-data-after-mbr") ?? []
            if let extended = table.entries.first(where: \.isExtended) {
                sources.extendedRecord = try folder.bytes("\(Self.file(extended.device))-ebr")
            }
        }
        do {
            let (fixed, warnings) = try table.made(on: builder.disk.geometry, sources, name: name)
            builder.disk.fixed += fixed
            warnings.forEach { builder.warn("\(name): \($0)") }
        } catch {
            throw folder.damage("\(file)-pt.sf", "no partition table can be made from it: \(error)")
        }
    }

    /// A disk without a partition table: a filesystem or a physical volume of LVM fills it.
    private func bareDisk(_ name: String, _ facts: ClonezillaDiskFacts) throws(ImageError) -> ForeignDisk {
        let byteCount = if let saved = facts.byteCount { saved } else { try physicalVolumeByteCount([name]) }
        guard let byteCount, byteCount >= 512 else {
            throw folder.refusal(
                "\(name) has no partition table, and its length was not saved. Name its image itself, to restore it as a "
                    + "disk that holds only a filesystem")
        }
        let sectorSize = facts.logicalSectorSize ?? 512
        let geometry = DiskGeometry(
            byteCount: byteCount, logicalSectorSize: sectorSize,
            physicalSectorSize: max(sectorSize, facts.physicalSectorSize ?? sectorSize))
        var builder = builder(name, facts, geometry)
        try add(name, at: 0..<byteCount, to: &builder)
        return try builder.finish()
    }
}

extension FolderFormat {
    static let clonezilla = FolderFormat(
        name: "Clonezilla folder",
        recognize: { path throws(ImageError) in ClonezillaFolder.isFolder(path) },
        disks: { path throws(ImageError) in try ClonezillaFolder(path).disks() },
        open: { path, disk throws(ImageError) in try ClonezillaFolder(path).disk(disk) })
}
