// SPDX-License-Identifier: GPL-3.0-or-later

/// The GRUB-related data of the loaders on an EFI system partition.
package struct GrubEFIFinding: LoaderFinding {
    /// One of the loaders.
    package struct Loader: Codable, Equatable, Sendable {
        /// Its path with backslashes.
        package var path: String
        /// The filesystem UUIDs that it, or the grub.cfg beside it, searches for.
        package var searchedUUIDs: [String]
        /// Whether it is the file made by the installed system's grub-install, or from its package.
        package var isInstalled: Bool

        package init(path: String, searchedUUIDs: [String] = [], isInstalled: Bool = false) {
            self.path = path
            self.searchedUUIDs = searchedUUIDs
            self.isInstalled = isInstalled
        }
    }

    package var loaders: [Loader]
    /// GRUB files on the running machine: `grub-mkimage`, and the modules, `x86_64-efi`.
    package var ownTools: [String]

    package init(loaders: [Loader] = [], ownTools: [String] = []) {
        self.loaders = loaders
        self.ownTools = ownTools
    }

    /// - Parameter installed: files of the installed system that a loader may be a copy of.
    package init(_ esp: ESPContents, installed: [[UInt8]] = []) {
        ownTools = []
        loaders = esp.files.map { file in
            Loader(
                path: file.path,
                searchedUUIDs: GrubConfiguration.unique(
                    GrubConfiguration.searchedUUIDs(in: file.bytes)
                        + GrubConfiguration.searchedUUIDs(in: file.configurations["grub.cfg"] ?? [])),
                isInstalled: installed.contains(file.bytes))
        }
    }

    /// The data of a loader.
    func loader(at path: String) -> Loader? { loaders.first { $0.path == path } }
}
