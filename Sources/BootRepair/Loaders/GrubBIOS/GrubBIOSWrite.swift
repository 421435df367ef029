// SPDX-License-Identifier: GPL-3.0-or-later

/// A repair of the BIOS boot chain without the installed system's tools.
package struct GrubBIOSWrite: Codable, Equatable, Sendable, CustomStringConvertible {
    /// The source of core.img.
    package enum Core: Codable, Equatable, Sendable {
        /// It is on the disk: only its block list is corrected. The number of its sectors, including the first.
        case onDisk(sectorCount: UInt64)
        /// A file of the installed system.
        case file(path: String)
        /// Made with grub-mkimage from the modules in a folder of the installed system, or of the medium if that is
        /// `nil`; `prefix` is the location of its configuration, `modules` its contents.
        case made(modulesFolder: String?, prefix: String, modules: [String])
    }

    /// The source of boot.img.
    package enum BootImage: Codable, Equatable, Sendable {
        /// The existing code is kept and gets the new sector.
        case kept
        /// A file of the installed system.
        case file(path: String)
        /// The file of the medium, or of this workstation.
        case medium
    }

    /// The source of core.img.
    package var core: Core
    /// The sector of 512 bytes at which core.img is or will be.
    package var coreSector: UInt64
    /// The first sector after the space for it.
    package var endSector: UInt64
    /// The source of the boot code.
    package var bootImage: BootImage
    /// The number of the partition that holds core.img.
    package var partition: Int?
    /// The number of runs in the existing block list.
    package var blockCount = 1

    /// The keys of `--json`.
    private enum CodingKeys: CodingKey {
        case core, coreSector, endSector, bootImage, partition
    }

    package init(
        core: Core, coreSector: UInt64, endSector: UInt64, bootImage: BootImage = .kept, partition: Int? = nil,
        blockCount: Int = 1
    ) {
        self.core = core
        self.coreSector = coreSector
        self.endSector = endSector
        self.bootImage = bootImage
        self.partition = partition
        self.blockCount = blockCount
    }

    /// A line for the user.
    package var description: String {
        let place = "sector \(coreSector)" + (partition.map { " (partition \($0))" } ?? "")
        let core =
            switch self.core {
            case .onDisk: "set the block list of core.img at \(place)"
            case .file(let path): "write \(path) to \(place)"
            case .made: "make a core.img with grub-mkimage and write it to \(place)"
            }
        return core + (bootImage == .kept ? "" : ", write GRUB's boot code to block 0")
            + ", and point the boot code to it"
    }
}
