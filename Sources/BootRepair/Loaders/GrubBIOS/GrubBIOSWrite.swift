// SPDX-License-Identifier: GPL-3.0-or-later

/// A repair of the BIOS boot chain that needs none of the installed system's tools.
package struct GrubBIOSWrite: Codable, Equatable, Sendable, CustomStringConvertible {
    /// Where core.img comes from.
    package enum Core: Codable, Equatable, Sendable {
        /// It lies on the disk: only its block list is put right. The number of its sectors, the first included.
        case onDisk(sectorCount: UInt64)
        /// A file of the installed system.
        case file(path: String)
        /// Made with grub-mkimage from the modules in a folder of the installed system, or of the medium where that is
        /// `nil`; `prefix` is where it will look for its configuration, `modules` what it holds.
        case made(modulesFolder: String?, prefix: String, modules: [String])
    }

    /// Where boot.img comes from.
    package enum BootImage: Codable, Equatable, Sendable {
        /// The code that is there stays, and gets the new place.
        case kept
        /// A file of the installed system.
        case file(path: String)
        /// The medium's (or this workstation's) own.
        case medium
    }

    /// Where core.img comes from.
    package var core: Core
    /// The sector of 512 bytes at which core.img lies or will lie.
    package var coreSector: UInt64
    /// The first sector behind the room for it.
    package var endSector: UInt64
    /// Where the boot code comes from.
    package var bootImage: BootImage
    /// The number of the partition that holds core.img.
    package var partition: Int?
    /// How many runs the block list has that lies there now.
    package var blockCount = 1

    /// What `--json` shows.
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

    /// A line for a person.
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
