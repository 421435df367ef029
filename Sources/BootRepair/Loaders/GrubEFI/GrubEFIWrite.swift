// SPDX-License-Identifier: GPL-3.0-or-later

/// GRUB for UEFI on the EFI system partition, made without the installed system's tools: an image with all modules that a
/// grub.cfg uses, and beside it a grub.cfg that finds the installed system's.
package struct GrubEFIWrite: Codable, Equatable, Sendable, CustomStringConvertible {
    /// The folder below `\EFI`.
    package var folder: String
    /// The folder of modules in the installed system; `nil` for those of the medium.
    package var modulesFolder: String?
    /// The modules of the image.
    package var modules: [String]
    /// The UUID of the filesystem with GRUB's menu.
    package var uuid: String
    /// The path of the menu's folder in that filesystem.
    package var path: String

    /// GRUB's modules for UEFI on the medium, or on this workstation.
    static let ownFolder = "/usr/lib/grub/x86_64-efi"
    /// The file of the image.
    static let fileName = "grubx64.efi"

    /// What menus of Debian, Ubuntu, Arch and openSUSE use; the image loads no other modules.
    private static let commonModules = [
        "part_gpt", "part_msdos", "fat", "normal", "configfile", "linux", "search", "search_fs_uuid", "search_label",
        "search_fs_file", "test", "true", "regexp", "echo", "ls", "cat", "gzio", "loadenv", "all_video", "gfxterm",
        "font", "gettext", "serial", "terminal", "minicmd", "sleep", "reboot", "halt", "chain", "efifwsetup",
    ]

    /// - Parameters:
    ///   - drivers: the modules that read the menu's filesystem.
    /// - Returns: `nil` if a text cannot be written in a grub.cfg.
    init?(folder: String, modulesFolder: String?, drivers: [String], uuid: String, path: String) {
        guard GrubConfiguration.looksLikeUUID(uuid[...]), Self.isPlain(path), Self.isPlain(folder) else { return nil }
        self.folder = folder
        self.modulesFolder = modulesFolder
        modules = Self.commonModules + drivers.filter { !Self.commonModules.contains($0) }
        self.uuid = uuid
        self.path = path
    }

    /// The path comes from the disk: a quote or a line break in it would be read as commands.
    private static func isPlain(_ text: String) -> Bool {
        !text.isEmpty
            && text.unicodeScalars.allSatisfy { scalar in
                scalar.isASCII && (scalar.properties.isAlphabetic || "0123456789/._-@+".unicodeScalars.contains(scalar))
            }
    }

    /// The configuration beside the image: its prefix is this folder, as of the images that distributions sign.
    var configuration: String {
        "search.fs_uuid \(uuid) root\nset prefix=($root)'\(path)'\nconfigfile $prefix/grub.cfg\n"
    }

    var verb: BootVerb {
        let inputs: BuiltFile.Inputs =
            if let modulesFolder {
                .system(modulesFolder, endings: GrubBIOS.moduleEndings, name: "the GRUB modules")
            } else {
                .own(Self.ownFolder)
            }
        let arguments: [BuiltFile.Word] = [
            "-O", "x86_64-efi", "-d", .inputs, "-p", .text("/EFI/\(folder)"), "-o", .result,
        ]
        let image = BuiltFile(
            Self.fileName, from: inputs, by: "grub-mkimage", arguments + modules.map { BuiltFile.Word.text($0) })
        return .writeFiles(
            FileWrites(
                "GRUB", in: .esp,
                [
                    FileWrites.File("EFI/\(folder)/grub.cfg", .text(configuration)),
                    FileWrites.File("EFI/\(folder)/\(Self.fileName)", .built(image)),
                ], done: "wrote GRUB for UEFI to \\EFI\\\(folder)\\\(Self.fileName)"))
    }

    /// A line for the user.
    package var description: String {
        "make GRUB for UEFI from \(modulesFolder == nil ? "the medium's" : "the installed system's") modules, and write it "
            + "to \\EFI\\\(folder)"
    }
}
