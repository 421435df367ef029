// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import ImageModel
import LinuxSystem
import SystemPackage

/// A folder of FOG: disks `d1`, `d2`, …, each with the dump of its table, its first sectors, and an image of each
/// partition.
struct FOGFolder {
    let folder: ForeignFolder

    init(_ path: FilePath) throws(ImageError) { folder = try ForeignFolder(path) }

    static func isFolder(_ path: FilePath) -> Bool {
        guard let isFolder = try? Files.status(path)?.isFolder, isFolder, let fog = try? FOGFolder(path) else {
            return false
        }
        return !fog.numbers.isEmpty || fog.isOldWindows
    }

    /// The layout of the times of Windows 7: two images without a table.
    private var isOldWindows: Bool { folder.has("sys.img.000") }

    private var numbers: [Int] {
        let found = folder.names.compactMap { name -> Int? in
            guard name.hasPrefix("d"), let dot = name.firstIndex(of: "."), let number = Int(name[..<dot].dropFirst()),
                [".mbr", ".partitions", ".original.partitions", ".minimum.partitions"].contains(name[dot...])
            else { return nil }
            return (1...99).contains(number) ? number : nil
        }
        return Set(found).sorted()
    }

    func disks() throws(ImageError) -> [String] { isOldWindows ? ["d1"] : numbers.map { "d\($0)" } }

    func disk(_ name: String) throws(ImageError) -> ForeignDisk {
        guard !isOldWindows else {
            throw folder.refusal(
                "sys.img.000 is FOG's old layout for Windows 7, which is not supported. Deploy it with FOG, and capture "
                    + "that")
        }
        guard try disks().contains(name) else {
            throw .missing("\(folder.path) has no disk \(name): it has \(try disks().joined(separator: ", "))")
        }
        let dump = ["\(name).partitions", "\(name).original.partitions", "\(name).minimum.partitions"].first(
            where: folder.has)
        guard let dump, let text = try folder.text(dump) else {
            throw .missing(
                "\(folder.path) has no \(name).partitions: without it, the places of its partitions are not known")
        }
        var table: ForeignTable
        do { table = try ForeignTable(sfdisk: text) } catch { throw folder.damage(dump, error.description) }
        let unit = UInt64(table.sectorSize ?? 512)
        let (least, overflow) = table.leastSectors(unit).multipliedReportingOverflow(by: unit)
        guard !overflow, let byteCount = least.roundedUp(toMultipleOf: table.kind == .gpt ? unit : 1 << 20),
            byteCount <= 1 << 60
        else { throw folder.damage(dump, "its numbers are too large to be true") }
        let geometry = DiskGeometry(
            byteCount: byteCount, logicalSectorSize: Int(unit), physicalSectorSize: Int(unit))
        var builder = ForeignDiskBuilder(
            folder, format: "FOG", geometry: geometry,
            identity: DiskIdentity(path: folder.path.string, kernelName: name, transport: "file"))
        builder.warn("FOG saves filesystems without checksums: nothing proves that their contents are as captured")
        builder.warn("FOG does not save the length of the disk: it is taken for as long as its partitions need")
        let front = try folder.bytes("\(name).mbr") ?? []
        try addTable(&table, dump, front, to: &builder)
        try warnOfShrinking(name, table, &builder)
        for entry in table.entries where table.kind == .gpt || !entry.isExtended {
            try add(name, entry, at: entry.start * unit..<entry.end * unit, to: &builder)
        }
        try refuseStrays(name, dump, table)
        return try builder.finish()
    }

    /// A list of partitions that was cut off, or changed, must not lose partitions in silence.
    private func refuseStrays(_ name: String, _ dump: String, _ table: ForeignTable) throws(ImageError) {
        let prefix = "\(name)p"
        var numbers = folder.names.filter { $0.hasPrefix(prefix) && ($0.contains(".img") || $0.contains(".lvm")) }
            .compactMap { Int($0.dropFirst(prefix.count).prefix { $0 != "." }) }
        numbers += try folder.lines("\(name).original.swapuuids").compactMap { $0.first.flatMap { Int($0) } }
        guard let stray = numbers.filter({ number in !table.entries.contains { $0.number == number } }).min() else {
            return
        }
        throw folder.refusal(
            "\(dump) does not list the partition \(stray), of which the folder has more: the list is damaged or belongs "
                + "to another image. Take it from the original folder")
    }

    /// - Parameter front: the disk from sector 0 up to the first partition, at most 1 MiB.
    private func addTable(
        _ table: inout ForeignTable, _ dump: String, _ front: [UInt8], to builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        let unit = builder.disk.geometry.logicalSectorSize
        let disk = dump.prefix { $0 != "." }
        if table.kind == .gpt,
            let saved = ForeignTable(gptHead: front, geometry: builder.disk.geometry, disk: String(disk)),
            let warning = table.complete(from: saved)
        {
            builder.warn("\(disk): \(warning)")
        }
        var sources = ForeignTable.MBRSources()
        if front.count >= 512 { sources.record = Array(front[..<512]) }
        if table.kind == .mbr {
            sources.hidden = Array(front.dropFirst(unit))
            if let extended = table.entries.first(where: \.isExtended) {
                sources.extendedRecord = try folder.bytes("\(disk)p\(extended.number).ebr")
            }
        }
        do {
            let (fixed, warnings) = try table.made(on: builder.disk.geometry, sources, name: String(disk))
            builder.disk.fixed += fixed
            warnings.forEach { builder.warn("\(disk): \($0)") }
        } catch { throw folder.damage(dump, "no partition table can be made from it: \(error)") }
    }

    /// A "resizable" image: FOG made the filesystems smaller before it saved them.
    private func warnOfShrinking(
        _ name: String, _ table: ForeignTable, _ builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        guard let text = try folder.text("\(name).minimum.partitions"), let least = try? ForeignTable(sfdisk: text)
        else {
            return
        }
        let shrunk = table.entries.filter { entry in
            least.entries.contains { $0.number == entry.number && $0.count < entry.count }
        }
        guard !shrunk.isEmpty else { return }
        builder.warn(
            "FOG made the filesystems of the partitions \(shrunk.map { "\($0.number)" }.joined(separator: ", ")) smaller "
                + "before it saved them: a restore makes them fill their partitions again")
    }

    private func add(
        _ name: String, _ entry: ForeignTable.Entry, at range: ByteRange, to builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        let label = "\(name)p\(entry.number)"
        if let stream = try stream("\(label).img") {
            builder.add(label, [range], .stream(stream, .partclone))
        } else if let text = try folder.bytes("\(label).lvm.vgcfg") {
            try addGroup(label, text, at: range, to: &builder)
        } else if let uuid = try swapUUID(name, entry.number) {
            builder.add(label, [range], .swap(uuid: uuid, label: ""))
        } else {
            builder.add(label, [range], .missing(reason: "the folder has no image of it (\(label).img)"))
        }
    }

    private func addGroup(
        _ label: String, _ text: [UInt8], at range: ByteRange, to builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        let disks: [(id: String, byteCount: UInt64?)]
        do { disks = try LVMBackup.disks(in: text) } catch { throw folder.damage("\(label).lvm.vgcfg", "\(error)") }
        guard disks.count == 1 else {
            builder.add(
                label, [range],
                .missing(
                    reason: "its volume group has \(disks.count) physical volumes, and FOG does not say which it is"))
            return
        }
        try builder.addPhysicalVolume(label, at: range, id: disks[0].id, text: text) { _, volume throws(ImageError) in
            guard let stream = try stream("\(label).\(volume).img") else {
                return .missing(reason: "the folder has no image of it (\(label).\(volume).img)")
            }
            return .stream(stream, .partclone)
        }
    }

    /// An image in one file or in pieces (`.000`, `.001`, …).
    private func stream(_ base: String) throws(ImageError) -> PieceStream? {
        var suffixes = folder.has(base) ? [""] : []
        suffixes += folder.names.filter { $0.hasPrefix("\(base).") }.map { String($0.dropFirst(base.count + 1)) }
            .filter { $0.count == 3 && $0.allSatisfy(\.isNumber) }
        guard !suffixes.isEmpty else { return nil }
        try refusePartimage(suffixes[0].isEmpty ? base : "\(base).\(suffixes[0])")
        return try folder.stream(base, suffixes)
    }

    /// FOG's format 1.
    private func refusePartimage(_ name: String) throws(ImageError) {
        guard let path = try folder.file(name), try FileHead(path).holds("PaRtImAgE-VoLuMe", at: 0) else { return }
        throw folder.refusal(
            "\(name) is an image of partimage, which is not supported. Deploy it with FOG, and capture that")
    }

    /// `d1.original.swapuuids`: number and UUID, one a line.
    private func swapUUID(_ name: String, _ number: Int) throws(ImageError) -> GUID? {
        let line = try folder.lines("\(name).original.swapuuids").first { $0.count >= 2 && Int($0[0]) == number }
        return line.flatMap { GUID($0[1]) }
    }
}

extension FolderFormat {
    static let fog = FolderFormat(
        name: "FOG folder",
        recognize: { path throws(ImageError) in FOGFolder.isFolder(path) },
        disks: { path throws(ImageError) in try FOGFolder(path).disks() },
        open: { path, disk throws(ImageError) in try FOGFolder(path).disk(disk) })
}
