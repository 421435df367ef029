// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The names of a captured machine and its disk in a repository.
package struct CapturedHost {
    /// The machine.
    package let name: String
    /// The disk.
    package let disk: String

    private typealias Volume = (filesystem: FilesystemInfo, range: ByteRange)

    /// The names for a disk that is captured. A raw file, or a loop device over one, does not belong to the machine
    /// that captures it.
    /// - Parameter isVirtual: whether it is the disk of a virtual machine, in a file that debugfs cannot read. Its
    ///   name is that of the file.
    package init(_ survey: DiskSurvey, _ source: OpenedDisk, isVirtual: Bool = false) {
        self.init(
            survey.identity, survey.table, survey.volumes.map { ($0.filesystem, $0.range) }, source,
            isVirtual: isVirtual)
    }

    /// The names that a capture of a disk in a file would give.
    /// - Parameter manifest: the description of the disk.
    init(_ manifest: Manifest, file: OpenedDisk, isVirtual: Bool) {
        let volumes = manifest.regions.compactMap { region in region.filesystem.map { ($0, region.range) } }
        self.init(manifest.disk, manifest.table, volumes, file, isVirtual: isVirtual)
    }

    /// The names that a snapshot has.
    init(_ snapshot: SnapshotInfo) { (name, disk) = (snapshot.host, snapshot.disk) }

    private init(
        _ identity: DiskIdentity, _ table: PartitionTable, _ volumes: [Volume], _ source: OpenedDisk, isVirtual: Bool
    ) {
        let place = Self.place(source)
        let fileName = isVirtual ? SnapshotNames.plain(source.device.path.stem) : nil
        disk =
            fileName
            ?? SnapshotNames.disk(identity, table: table, filesystems: volumes.map(\.filesystem), place: place)
        if !isVirtual, let name = Self.systemName(volumes, source) {
            self.name = name
        } else if source.device.isDevice, source.identity.transport != "loop" {
            name = Self.machineName ?? "unknown-\(SnapshotNames.shortID(disk))"
        } else {
            name = "unknown-\(SnapshotNames.shortID("\(ProcessFacts.own().machine) \(place)"))"
        }
    }

    /// The names for an image that is copied into a repository.
    /// - Parameter path: the image.
    package init(_ manifest: Manifest, path: FilePath?) {
        let place = manifest.disk.path
        disk = SnapshotNames.disk(
            manifest.disk, table: manifest.table, filesystems: manifest.regions.compactMap(\.filesystem), place: place)
        if let name = manifest.machine.hostName, SnapshotNames.isValid(name) {
            self.name = name
        } else if let product = SnapshotNames.plain(manifest.machine.product) {
            name = product
        } else {
            let file = path.flatMap(Files.realPath)?.string
            let origin = file.map { "\(ProcessFacts.own().machine) \($0)" } ?? "\(manifest.imageUUID)"
            name = "unknown-\(SnapshotNames.shortID(origin))"
        }
    }

    /// Checks a name that the user gave for a machine or a disk: it is taken unchanged, or refused.
    package static func check(_ name: String?, _ option: String) throws {
        guard let name, !SnapshotNames.isValid(name) else { return }
        throw JobFailure(.usage, "\(option) takes \(SnapshotNames.rule)")
    }

    /// The captured system's own name.
    private static func systemName(_ volumes: [Volume], _ source: OpenedDisk) -> String? {
        let mounts = source.uses.compactMap { use in
            if case .mounted(_, let place, _) = use { return place }
            return nil
        }
        // The running system is the one on the disk: its name needs no read of the disk.
        if mounts.contains("/"), let name = hostName(Files.text("/etc/hostname")) { return name }
        for volume in volumes where volume.filesystem.isExt {
            if let name = hostName(ofFilesystemAt: volume.range.lowerBound, on: source.device.path) { return name }
        }
        return nil
    }

    /// This machine's product and serial number; without a serial number, a short form of its UUID, which distinguishes
    /// machines of one product. `nil` if firmware gives neither.
    private static var machineName: String? {
        let firmware = FilePath("/sys/class/dmi/id")
        func text(_ name: String) -> String? { SnapshotNames.plain(Files.text(firmware.appending(name))) }
        if let serial = text("product_serial"), !placeholders.contains(serial.lowercased()) {
            return [text("product_name"), serial].compactMap { $0 }.joined(separator: "-")
        }
        guard let uuid = text("product_uuid") else { return nil }
        return "\(text("product_name") ?? "unknown")-\(SnapshotNames.shortID(uuid))"
    }

    /// Firmware's placeholders for a serial number that was never set.
    private static let placeholders: Set<String> = [
        "none", "not-specified", "not-applicable", "n", "na", "n-a", "0", "123456789", "0123456789", "default-string",
        "system-serial-number", "to-be-filled-by-o.e.m.", "to-be-filled-by-o.e.m", "unknown", "empty",
    ]

    /// The place of a disk: for a loop device, its file (and offset).
    private static func place(_ source: OpenedDisk) -> String {
        let path = Files.realPath(source.device.path)?.string ?? source.device.path.string
        guard let kernelName = source.kernelName else { return path }
        let loop = FilePath("/sys/block/\(kernelName)/loop")
        if let backing = Files.text(loop.appending("backing_file")) {
            let offset = Files.text(loop.appending("offset")) ?? "0"
            return (Files.realPath(FilePath(backing))?.string ?? backing) + (offset == "0" ? "" : "+\(offset)")
        }
        return source.identity.pathByPlace ?? path
    }

    /// /etc/hostname of an ext filesystem, read by debugfs without mounting anything; `nil` if there is none.
    private static func hostName(ofFilesystemAt offset: UInt64, on disk: FilePath) -> String? {
        // debugfs opens read-only unless told otherwise; -c also works while bitmaps are damaged. libext2fs takes the
        // filesystem's offset from the text after the question mark, so a path with a question mark cannot be used.
        guard !disk.string.contains("?") else { return nil }
        let output = try? ChildProcess.run([
            "debugfs", "-c", "-R", "cat /etc/hostname", "\(disk.string)?offset=\(offset)",
        ])
        guard let output, output.succeeded else { return nil }
        return hostName(output.text)
    }

    /// The name in an /etc/hostname (hostname(5): comments start with "#"); `nil` if it has no valid one.
    private static func hostName(_ text: String?) -> String? {
        let lines = text?.split(whereSeparator: \.isNewline).map { $0.trimmingSpaces() } ?? []
        guard let name = lines.first(where: { !$0.isEmpty && !$0.hasPrefix("#") }) else { return nil }
        return SnapshotNames.isValid(name) ? name : nil
    }
}

extension Substring {
    /// Without the white space at both ends.
    fileprivate func trimmingSpaces() -> String {
        let front = drop { $0.isWhitespace }
        return String(front.reversed().drop { $0.isWhitespace }.reversed())
    }
}
