// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import SystemAccess

/// A partition from which systemd-boot reads entries and images: the EFI system partition, or the extended boot
/// partition of the same disk. Read without mounting it.
struct BootPartition {
    let volume: BootVolume
    let place: TreePlace
    let fat: FATVolume

    /// Upper bound on the files of a folder that are looked at.
    static let mostFiles = 256

    /// Those of a disk that hold FAT; firmware reads nothing else.
    static func all(of disk: any BlockReader, _ volumes: [BootVolume]) -> [BootPartition] {
        var found: [BootPartition] = []
        for (volume, place) in [
            (volumes.first(where: \.isESP), TreePlace.esp), (volumes.first(where: \.isExtendedBoot), .extendedBoot),
        ] {
            guard let volume, volume.isFAT, let slice = BlockSlice(disk, range: volume.range),
                let fat = try? FATVolume(slice)
            else { continue }
            found.append(BootPartition(volume: volume, place: place, fat: fat))
        }
        return found
    }

    /// The files of a folder with this ending, in lower case, sorted; empty if there is no such folder.
    func names(in folder: String, ending: String) -> [String] {
        let entries = (try? fat.entries(in: folder)) ?? []
        let names = entries.filter { !$0.isFolder && $0.name.lowercased().hasSuffix(ending) }.map(\.name)
        return Array(names.sorted().prefix(Self.mostFiles))
    }

    func exists(_ path: String) -> Bool { (try? fat.exists(path)) == true }

    /// The text of a small file; `nil` if it cannot be read.
    func text(_ path: String) -> String? {
        (try? fat.readFile(path, limit: LoaderEntry.largestFile)).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The entries in /loader/entries, with the files that they name and that do not exist.
    func loaderEntries() -> [LoaderEntry] {
        names(in: "/loader/entries", ending: ".conf").compactMap { name in
            let path = "/loader/entries/\(name)"
            guard let text = text(path) else { return nil }
            var entry = LoaderEntry(text, file: TreePath(place, path), partition: volume.number)
            entry.missing = entry.files.filter { !exists($0) }
            return entry
        }
    }
}

extension BootVolume {
    /// Whether it is an extended boot partition (XBOOTLDR).
    package var isExtendedBoot: Bool { typeGUID.description == PartitionType.extendedBoot }
    /// Whether systemd finds it as a root for x86-64 by its type (Discoverable Partitions Specification).
    var isDiscoverableRoot: Bool { typeGUID.description == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" }
}
