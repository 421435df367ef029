// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import SystemPackage

/// A mounted disk: where it is, and how to look into it.
package struct MountReport: Encodable, Equatable {
    package struct Row: Encodable, Equatable {
        package var number: Int?
        package var offset: UInt64
        package var byteCount: UInt64
        package var filesystem: String
        package var label: String?
        /// A command that mounts the filesystem without writing; `nil` for what the kernel cannot mount.
        package var command: String?
    }

    /// The name of the file in the user's folder.
    package static let fileName = "disk.raw"

    package let schema = 1
    package var image: String
    package var imageID: String?
    package var path: String
    package var byteCount: UInt64
    package var sectorSize: Int
    package var partitions: [Row]

    package init(image: String, imageID: String?, path: FilePath, manifest: Manifest) {
        (self.image, self.imageID, self.path) = (image, imageID, path.string)
        byteCount = manifest.geometry.byteCount
        sectorSize = manifest.geometry.logicalSectorSize
        partitions = manifest.regions.compactMap { region in
            guard region.kind != .gap, let filesystem = region.filesystem else { return nil }
            var row = Row(
                number: region.partition, offset: region.range.lowerBound, byteCount: region.range.byteCount,
                filesystem: filesystem.kindName, label: filesystem.label)
            if let manner = filesystem.traits.mount {
                let options = ["ro", manner.readOnlyOptions, "loop,offset=\(row.offset),sizelimit=\(row.byteCount)"]
                    .filter { !$0.isEmpty }
                row.command = ["mount", "-t", manner.type, "-o", options.joined(separator: ","), path.string, "/mnt"]
                    .map(ShellText.quoted).joined(separator: " ")
            }
            return row
        }
    }

    /// What to do with the file, for a person.
    /// - Parameter isRoot: whether root runs the command; the kernel lets no other user, not even root, read the file.
    package func hints(isRoot: Bool) -> [String] {
        let file = ShellText.quoted(path)
        var lines = ["\(path) has the \(ByteText.rounded(byteCount)) of \(image), read-only, until Ctrl-C"]
        let rows = partitions.map {
            [
                $0.number.map(String.init) ?? "-", "\($0.offset)", ByteText.rounded($0.byteCount), $0.filesystem,
                $0.label ?? "",
            ]
        }
        lines += TextTable.lines(["#", "OFFSET", "SIZE", "HOLDS", "LABEL"], rows).map { "  " + $0 }
        let sector = sectorSize == 512 ? "" : " --sector-size \(sectorSize)"
        if !isRoot {
            lines.append("Only you can read it: to have the kernel mount its filesystems, run this command as root")
        } else {
            lines.append(
                "Its partitions as devices: losetup --find --show --read-only --partscan\(sector) \(file)")
            if let command = partitions.lazy.compactMap(\.command).first { lines.append("One filesystem: \(command)") }
        }
        if let row = partitions.first(where: { $0.filesystem.hasPrefix("ext") }) {
            lines.append(
                "An ext4 without mounting it: debugfs \(ShellText.quoted("\(path)?offset=\(row.offset)"))")
        }
        return lines
    }
}
