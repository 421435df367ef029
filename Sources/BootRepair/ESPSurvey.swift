// SPDX-License-Identifier: GPL-3.0-or-later

/// A loader on the EFI system partition.
package struct EFILoader: Codable, Equatable, Sendable {
    /// Its path with backslashes: `\EFI\debian\grubx64.efi`.
    package var path: String
    /// Its length in bytes.
    package var byteCount: UInt64
    /// Whether it has a signature, which Secure Boot requires; `nil` if it is no EFI program.
    package var isSigned: Bool?

    /// Describes a loader.
    package init(path: String, byteCount: UInt64, isSigned: Bool? = nil) {
        self.path = path
        self.byteCount = byteCount
        self.isSigned = isSigned
    }

    /// The folder below `\EFI` that holds it, as spelled there.
    package var folder: String {
        let parts = path.split(separator: "\\")
        return parts.count > 2 ? String(parts[1]) : ""
    }
    /// The file's name.
    package var name: String { path.split(separator: "\\").last.map(String.init) ?? path }
}

/// The EFI system partition of a disk.
package struct ESPSurvey: Codable, Equatable, Sendable {
    /// The owner of `\EFI\BOOT\BOOTX64.EFI`, which firmware starts if no NVRAM entry works.
    package enum Fallback: Codable, Equatable, Sendable {
        /// There is none.
        case none
        /// A copy of this loader.
        case copy(of: String)
        /// A foreign loader; `owner` names its owner, as far as recognized.
        case foreign(owner: String)
    }

    /// The number of the partition.
    package var partition: Int
    /// The loaders in its vendors' folders, in the order of the folder.
    package var loaders: [EFILoader]
    /// The owner of the fallback loader.
    package var fallback: Fallback
    /// Whether the fallback loader has a signature; `nil` if there is none, or it is no EFI program.
    package var fallbackIsSigned: Bool?
    /// The reason it could not be read.
    package var problem: String?

    /// The path of the fallback loader (UEFI 2.10 §3.5.1.1).
    package static let fallbackPath = "\\EFI\\BOOT\\BOOTX64.EFI"

    /// Describes an EFI system partition.
    package init(partition: Int, loaders: [EFILoader] = [], fallback: Fallback = .none, problem: String? = nil) {
        self.partition = partition
        self.loaders = loaders
        self.fallback = fallback
        self.problem = problem
    }

    /// The loader of GRUB, or of rEFInd, for a system: in its distribution's folder, else in the only folder with one.
    /// shim before GRUB: with Secure Boot, firmware starts nothing else.
    package func loader(forDistribution identifier: String?) -> EFILoader? {
        let linux = loaders.filter { Self.rank($0) != nil }
        let folders = Set(linux.map { $0.folder.lowercased() })
        let wanted = Self.folderNames(ofDistribution: identifier ?? "").first(where: folders.contains)
        guard let folder = wanted ?? (folders.count == 1 ? folders.first : nil) else { return nil }
        return linux.filter { $0.folder.lowercased() == folder }
            .min { (Self.rank($0) ?? .max) < (Self.rank($1) ?? .max) }
    }

    /// Folders below `\EFI` by os-release's ID.
    static func folderNames(ofDistribution identifier: String) -> [String] {
        switch identifier {
        case "rhel": ["redhat"]
        case "opensuse-leap", "opensuse-tumbleweed": ["opensuse"]
        case "sles": ["sles"]
        case "linuxmint": ["linuxmint", "ubuntu"]
        case "": []
        default: [identifier.lowercased()]
        }
    }

    /// A loader's place among those of a folder: the least is started. `nil` for a program that is no loader.
    private static func rank(_ loader: EFILoader) -> Int? {
        // openSUSE and SLES have the second and the fourth.
        ["shimx64.efi", "shim.efi", "grubx64.efi", "grub.efi", "refind_x64.efi"]
            .firstIndex(of: loader.name.lowercased())
    }
}

/// An EFI system partition, with the files needed by the loaders' surveys.
package struct ESPContents: Sendable {
    /// A loader.
    package struct File: Sendable {
        /// Its path with backslashes.
        package var path: String
        package var bytes: [UInt8]
        /// The configuration files in its folder that were requested, by name.
        package var configurations: [String: [UInt8]]
    }

    package var survey: ESPSurvey
    /// The loaders, in the order of the survey.
    package var files: [File] = []
}
