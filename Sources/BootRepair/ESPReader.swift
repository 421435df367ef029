// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems

/// Looks into an EFI system partition with our own FAT reader: nothing is mounted.
package enum ESPReader {
    private static let largestLoader = 32 << 20

    /// Reads the loaders.
    /// - Parameter installed: files of the installed system that a loader may be a copy of.
    package static func read(_ disk: any BlockReader, volume: BootVolume, installed: [[UInt8]] = []) -> ESPSurvey {
        var survey = ESPSurvey(partition: volume.number)
        guard let slice = BlockSlice(disk, range: volume.range) else {
            survey.problem = "it does not lie on the disk"
            return survey
        }
        do {
            let fat = try FATVolume(slice)
            guard let top = try find("EFI", in: "/", fat, folders: true) else { return survey }
            let folders = try fat.entries(in: "/\(top)").filter { $0.isFolder && !$0.name.hasPrefix(".") }
            var contents: [(path: String, bytes: [UInt8])] = []
            for folder in folders where folder.name.lowercased() != "boot" {
                let path = "/\(top)/\(folder.name)"
                let configuration = try find("grub.cfg", in: path, fat).map {
                    try fat.readFile("\(path)/\($0)", limit: 1 << 20)
                }
                for name in try loaderNames(in: path, fat) {
                    let bytes = try fat.readFile("\(path)/\(name)", limit: largestLoader)
                    let backslashed =
                        "\\EFI\\\(folder.name)\\\(name.split(separator: "/").joined(separator: "\\"))"
                    contents.append((backslashed, bytes))
                    survey.loaders.append(
                        EFILoader(
                            path: backslashed, byteCount: UInt64(bytes.count),
                            searchedUUIDs: unique(
                                searchedUUIDs(in: bytes) + searchedUUIDs(in: configuration ?? [])),
                            isInstalled: installed.contains(bytes)))
                }
            }
            survey.fallback = try fallback(fat, top, contents)
        } catch {
            survey.problem = "\(error)"
        }
        return survey
    }

    private static func fallback(
        _ fat: FATVolume, _ top: String, _ loaders: [(path: String, bytes: [UInt8])]
    ) throws -> ESPSurvey.Fallback {
        guard let folder = try find("BOOT", in: "/\(top)", fat, folders: true),
            let name = try find("BOOTX64.EFI", in: "/\(top)/\(folder)", fat)
        else { return .none }
        let bytes = try fat.readFile("/\(top)/\(folder)/\(name)", limit: largestLoader)
        if let twin = loaders.first(where: { $0.bytes == bytes }) { return .copy(of: twin.path) }
        return .foreign(owner: owner(of: bytes))
    }

    /// Whose a loader looks to be, by the strings that it holds.
    static func owner(of bytes: [UInt8]) -> String {
        func holds(_ text: String, wide: Bool = false) -> Bool {
            bytes.contains(wide ? text.utf8.flatMap { [$0, 0] } : Array(text.utf8))
        }
        if holds("bootmgfw", wide: true) || holds("bootmgfw") || holds("Microsoft Corporation", wide: true) {
            return "Windows Boot Manager"
        }
        if holds("UEFI SHIM") || holds("shim_cert") { return "a shim that no vendor's folder holds" }
        if holds("systemd-boot") { return "systemd-boot" }
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

    /// The name in `folder` that equals `name` whatever the case; `nil` where there is none.
    private static func find(
        _ name: String, in folder: String, _ fat: FATVolume, folders: Bool = false
    ) throws -> String? {
        try fat.entries(in: folder).first { $0.isFolder == folders && $0.name.lowercased() == name.lowercased() }?.name
    }

    /// The arguments of `search.fs_uuid` in a GRUB image's embedded configuration or in a grub.cfg.
    static func searchedUUIDs(in bytes: [UInt8]) -> [String] {
        let marks = ["search.fs_uuid ", "--fs-uuid "].map { Array($0.utf8) }
        var found: [String] = []
        for mark in marks {
            var position = bytes.firstIndex(of: mark)
            while let start = position {
                let rest = bytes[(start + mark.count)...].prefix(256).prefix { $0 != 10 && $0 != 0 }
                let words = String(decoding: rest, as: UTF8.self).split(separator: " ")
                if let word = words.first(where: { looksLikeUUID($0) }) { found.append(String(word)) }
                position = bytes.firstIndex(of: mark, from: start + mark.count)
            }
        }
        return unique(found)
    }

    /// `1234-ABCD` or the long form.
    static func looksLikeUUID(_ word: Substring) -> Bool {
        (word.count == 36 || word.count == 9) && word.contains("-") && word.allSatisfy { $0.isHexDigit || $0 == "-" }
    }

    private static func unique(_ texts: [String]) -> [String] {
        texts.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}
