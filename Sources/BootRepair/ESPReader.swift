// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel
import Filesystems
import SystemAccess

/// Reads an EFI system partition with the built-in FAT reader, without mounting it.
package enum ESPReader {
    private static let largestLoader = 32 << 20

    /// Reads the loaders.
    /// - Parameter names: configuration files to read beside each loader.
    package static func read(
        _ disk: any BlockReader, volume: BootVolume, configurations names: [String] = []
    ) -> ESPContents {
        var contents = ESPContents(survey: ESPSurvey(partition: volume.number))
        guard let slice = BlockSlice(disk, range: volume.range) else {
            contents.survey.problem = "it does not lie on the disk"
            return contents
        }
        do {
            let fat = try FATVolume(slice)
            guard let top = try find("EFI", in: "/", fat, folders: true) else { return contents }
            let folders = try fat.entries(in: "/\(top)").filter { $0.isFolder && !$0.name.hasPrefix(".") }
            // Unified kernel images are read by their own row: each may be larger than all loaders together.
            for folder in folders where !["boot", "linux"].contains(folder.name.lowercased()) {
                let path = "/\(top)/\(folder.name)"
                var configurations: [String: [UInt8]] = [:]
                for name in names {
                    guard let found = try find(name, in: path, fat) else { continue }
                    configurations[name] = try fat.readFile("\(path)/\(found)", limit: 1 << 20)
                }
                for name in try loaderNames(in: path, fat) {
                    let bytes = try fat.readFile("\(path)/\(name)", limit: largestLoader)
                    let backslashed =
                        "\\EFI\\\(folder.name)\\\(name.split(separator: "/").joined(separator: "\\"))"
                    contents.survey.loaders.append(
                        EFILoader(
                            path: backslashed, byteCount: UInt64(bytes.count),
                            isSigned: (try? PEImage(bytes))?.isSigned))
                    contents.files.append(
                        ESPContents.File(path: backslashed, bytes: bytes, configurations: configurations))
                }
            }
            contents.survey.fallback = try fallback(fat, top, contents.files)
            contents.survey.fallbackIsSigned = try fallbackFile(fat, top).flatMap { try? head(of: $0) }?.isSigned
        } catch {
            contents.survey.problem = "\(error)"
        }
        return contents
    }

    private static func fallbackFile(_ fat: FATVolume, _ top: String) throws -> FATFile? {
        guard let folder = try find("BOOT", in: "/\(top)", fat, folders: true),
            let name = try find("BOOTX64.EFI", in: "/\(top)/\(folder)", fat)
        else { return nil }
        return try FATFile("/\(top)/\(folder)/\(name)", in: fat)
    }

    private static func head(of file: FATFile) throws -> PEImage {
        try PEImage(
            head: try file.read(at: 0, count: PEImage.headByteCount), byteCount: Int(clamping: file.byteCount))
    }

    private static func fallback(
        _ fat: FATVolume, _ top: String, _ loaders: [ESPContents.File]
    ) throws -> ESPSurvey.Fallback {
        guard let file = try fallbackFile(fat, top) else { return .none }
        // A read error is no answer to what it is.
        let start = try file.read(at: 0, count: PEImage.headByteCount)
        if let image = try? PEImage(head: start, byteCount: Int(clamping: file.byteCount)), image.isUnifiedKernel {
            return try twin(of: file, fat, top).map { .copy(of: $0) } ?? .foreign(owner: "a unified kernel image")
        }
        guard file.byteCount <= largestLoader else { return .foreign(owner: "an unknown loader") }
        let bytes = try file.read(at: 0, count: largestLoader)
        if let twin = loaders.first(where: { $0.bytes == bytes }) { return .copy(of: twin.path) }
        return .foreign(owner: owner(of: bytes))
    }

    /// The unified kernel image that the fallback loader is a copy of.
    private static func twin(of file: FATFile, _ fat: FATVolume, _ top: String) throws -> String? {
        guard let folder = try find("Linux", in: "/\(top)", fat, folders: true) else { return nil }
        for entry in try fat.entries(in: "/\(top)/\(folder)").prefix(BootPartition.mostFiles)
        where UInt64(entry.byteCount) == file.byteCount && !entry.isFolder {
            let other = try FATFile("/\(top)/\(folder)/\(entry.name)", in: fat)
            if try file.isEqual(to: other) { return "\\EFI\\\(folder)\\\(entry.name)" }
        }
        return nil
    }

    /// The name of systemd-boot as an owner.
    static let systemdBoot = "systemd-boot"

    /// The owner of a loader, recognized by strings in it.
    static func owner(of bytes: [UInt8]) -> String {
        func holds(_ text: String, wide: Bool = false) -> Bool {
            bytes.contains(wide ? text.utf8.flatMap { [$0, 0] } : Array(text.utf8))
        }
        if holds("bootmgfw", wide: true) || holds("bootmgfw") || holds("Microsoft Corporation", wide: true) {
            return "Windows Boot Manager"
        }
        if holds("UEFI SHIM") || holds("shim_cert") { return "a shim that no vendor's folder holds" }
        if holds(systemdBoot) { return systemdBoot }
        if holds("rEFInd", wide: true) { return "rEFInd" }
        if holds("grub_efi") || holds("search.fs_uuid") || holds("GRUB") || holds("normal.mod") || holds("(memdisk)") {
            return "another GRUB"
        }
        return "an unknown loader"
    }

    /// The loaders in a folder and, for Windows, in `Boot` below it.
    private static func loaderNames(in path: String, _ fat: FATVolume) throws -> [String] {
        var names = try fat.entries(in: path).filter {
            !$0.isFolder && $0.name.lowercased().hasSuffix(".efi")
                // MOK manager and shim's entry maker are shim's helpers, not loaders.
                && !["mmx64.efi", "fbx64.efi"].contains($0.name.lowercased())
        }.map(\.name)
        if let boot = try find("Boot", in: path, fat, folders: true),
            let manager = try find("bootmgfw.efi", in: "\(path)/\(boot)", fat)
        {
            names.append("\(boot)/\(manager)")
        }
        return names
    }

    /// The name in `folder` that equals `name`, ignoring case; `nil` if there is none.
    private static func find(
        _ name: String, in folder: String, _ fat: FATVolume, folders: Bool = false
    ) throws -> String? {
        try fat.entries(in: folder).first { $0.isFolder == folders && $0.name.lowercased() == name.lowercased() }?.name
    }
}
