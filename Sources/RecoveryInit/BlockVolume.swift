// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// A volume of this machine, as `blkid` identifies it: a disk without a table, a partition, an optical disc.
struct BlockVolume: Equatable, Sendable {
    /// The kernel's name of its node.
    var node: String
    /// The kernel's name of its disk.
    var disk: String
    /// The filesystem's type in the naming of blkid and mount.
    var type: String
    /// The filesystem's label.
    var label: String?
    /// The filesystem's UUID.
    var uuid: String?
    /// The partition's name in a GPT.
    var partitionName: String?
    /// Its length in bytes.
    var byteCount: UInt64

    /// The path of the node.
    var path: String { "/dev/\(node)" }

    /// The best name for it in a location: its UUID, unless another volume, such as a copy of it, has the same.
    func locationName(among volumes: [BlockVolume]) -> ImageAddress.VolumeName {
        guard let uuid, !uuid.isEmpty, (try? Self.choose(.uuid(uuid), from: volumes)) != nil else {
            return .device(path)
        }
        return .uuid(uuid)
    }

    /// The fields of `blkid -p -o export`: `KEY=VALUE` a line, with backslashes before shell special characters.
    static func parseExport(_ text: String) -> [String: String] {
        var fields: [String: String] = [:]
        for line in text.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            let key = line[..<equals]
            guard !key.isEmpty, key.allSatisfy({ $0.isASCII && ($0.isUppercase || $0.isNumber || $0 == "_") }) else {
                continue
            }
            var value = ""
            var isEscaped = false
            for character in line[line.index(after: equals)...] {
                if character == "\\", !isEscaped {
                    isEscaped = true
                } else {
                    value.append(character)
                    isEscaped = false
                }
            }
            // The first occurrence counts: DEVNAME and TYPE precede all fields that a volume controls.
            if fields[String(key)] == nil { fields[String(key)] = value }
        }
        return fields
    }

    /// All nodes that may hold a volume, with their sizes in bytes.
    static func nodes() -> [String: UInt64] {
        var nodes: [String: UInt64] = [:]
        for name in Files.names(in: "/sys/class/block")
        where !["ram", "zram", "fd", "nbd"].contains(where: name.hasPrefix) {
            guard let sectors = Files.text(FilePath("/sys/class/block/\(name)/size")).flatMap({ UInt64($0) }),
                sectors > 0
            else { continue }
            // The device below a mount of ours would be a second volume with the same names.
            if let backing = Files.text(FilePath("/sys/class/block/\(name)/loop/backing_file")),
                ["/dev/", "/run/reforge/"].contains(where: backing.hasPrefix)
            {
                continue
            }
            nodes[name] = sectors.multipliedReportingOverflow(by: 512).partialValue
        }
        return nodes
    }

    /// All volumes with a filesystem, ordered by name. One process per node: a crash of blkid on a damaged volume
    /// affects only that node.
    static func all(_ directory: DiskDirectory = DiskDirectory()) -> [BlockVolume] {
        nodes().sorted { $0.key < $1.key }.compactMap { node, byteCount in
            guard
                let output = try? ChildProcess.run(
                    ["blkid", "-p", "-o", "export", "/dev/\(node)"], timeoutSeconds: 30)
            else { return nil }
            let fields = parseExport(output.text)
            let type = fields["TYPE"] ?? ""
            guard !type.isEmpty || fields["PART_ENTRY_NAME"] != nil else { return nil }
            return BlockVolume(
                node: node, disk: directory.wholeDisk(of: node), type: type, label: fields["LABEL"],
                uuid: fields["UUID"],
                partitionName: fields["PART_ENTRY_NAME"], byteCount: byteCount)
        }
    }

    /// The volume that a location names.
    /// - Throws: status 66 if there is none, 78 if there are several. The message lists the volumes.
    static func choose(_ name: ImageAddress.VolumeName, from volumes: [BlockVolume]) throws(JobFailure) -> BlockVolume {
        let matching = volumes.filter { volume in
            switch name {
            case .label(let label): volume.label == label && !volume.type.isEmpty
            case .uuid(let uuid): volume.uuid?.lowercased() == uuid.lowercased()
            case .device(let path): volume.path == path
            }
        }
        guard let first = matching.first else {
            throw JobFailure(
                .notFound, "There is no volume \(name.description.printable).\n" + list(volumes))
        }
        guard matching.count == 1 || areOneDisc(matching) else {
            throw JobFailure(
                .ambiguous,
                "\(matching.count) volumes are called \(name.description.printable).\n" + list(volumes))
        }
        return first
    }

    /// An ISO written to a stick appears twice: as the disk and as its first partition.
    static func areOneDisc(_ volumes: [BlockVolume]) -> Bool {
        Set(volumes.map(\.disk)).count == 1 && volumes.allSatisfy { $0.type == "iso9660" }
    }

    /// A line of a list.
    var line: String {
        var parts = [path, ByteText.rounded(byteCount), type.isEmpty ? "(no filesystem)" : type.printable]
        if let label { parts.append("LABEL=\(label.printable)") }
        if let uuid { parts.append("UUID=\(uuid.printable)") }
        return parts.joined(separator: "  ")
    }

    static func list(_ volumes: [BlockVolume]) -> String {
        volumes.isEmpty
            ? "There are no volumes." : "The volumes:\n" + volumes.map { "  \($0.line)" }.joined(separator: "\n")
    }
}
