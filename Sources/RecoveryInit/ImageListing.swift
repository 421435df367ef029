// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// An image or a repository found on a volume of this machine.
struct FoundImage: Equatable {
    /// Its location, as in settings.
    var location: ImageAddress
    /// The length of the file (of the first part, if split) in bytes.
    var byteCount: UInt64
    /// The label of its volume, for display.
    var volumeLabel: String?

    /// Whether it is a repository: its location ends in `@`, after which a snapshot must be named.
    var isRepository: Bool {
        if case .volume(_, let path) = location { path.hasSuffix("@") } else { false }
    }

    /// A line of a list.
    var line: String {
        if isRepository {
            return
                "\(location.description.printable)  repository\(volumeLabel.map { "  on \"\($0.printable)\"" } ?? "")"
        }
        return
            "\(location.description.printable)  \(ByteText.rounded(byteCount))\(volumeLabel.map { "  on \"\($0.printable)\"" } ?? "")"
    }
}

/// Looks for images.
enum ImageListing {
    /// Upper bound on the list.
    static let limit = 99

    /// Whether a file name is that of an image or of its first part.
    static func isImageName(_ name: String) -> Bool {
        [".img.zst", ".img.zst.000", ".img.enc", ".img.enc.000", ".img.xz"].contains { name.lowercased().hasSuffix($0) }
            && !name.hasPrefix(".")
    }

    /// The images on `volumes`, each mounted briefly, read-only. Searches at most two folder levels.
    static func images(on volumes: [BlockVolume]) -> [FoundImage] {
        var found: [FoundImage] = []
        var seen: [String] = []
        for volume in volumes where found.count < limit {
            // An ISO appears both as a disk and as its partition.
            if let uuid = volume.uuid, volume.type == "iso9660" {
                if seen.contains(volume.disk + uuid) { continue }
                seen.append(volume.disk + uuid)
            }
            guard volume.isMountable(writable: false),
                let mounted = try? OpenedVolume(volume)
            else { continue }
            for path in paths(below: mounted.folder) where found.count < limit {
                let size = path.hasSuffix("@") ? 0 : (try? Stat(mounted.folder.appending(path)))?.size
                guard let size else { continue }
                found.append(
                    FoundImage(
                        location: .volume(volume.locationName(among: volumes), path: "/" + path),
                        byteCount: UInt64(max(0, size)),
                        volumeLabel: volume.label))
            }
        }
        return found
    }

    /// The images' paths below a folder, relative to it; a repository's path ends in `@`, and its contents are not
    /// listed.
    static func paths(below root: FilePath, depth: Int = 2) -> [String] {
        var result: [String] = []
        var folders = [("", 0)]
        var budget = 20_000
        while !folders.isEmpty, budget > 0 {
            let (folder, level) = folders.removeFirst()
            let place = folder.isEmpty ? root : root.appending(folder)
            if Files.exists(place.appending(SnapshotPath.configurationFile)),
                Files.exists(place.appending(SnapshotPath.snapshotsFolder))
            {
                result.append(folder + "@")
                continue
            }
            for entry in Files.entries(in: place) {
                budget -= 1
                let path = folder.isEmpty ? entry.name : folder + "/" + entry.name
                // A name that cannot be part of a location cannot be restored from.
                guard (try? ImageAddress.parse(setting: "/dev/x:/" + path)) != nil else { continue }
                if entry.kind == .folder, level < depth { folders.append((path, level + 1)) }
                if entry.kind == .file, isImageName(entry.name) { result.append(path) }
            }
        }
        return result
    }
}
