// SPDX-License-Identifier: GPL-3.0-or-later

/// The state of GRUB's BIOS boot chain, from the disk's own bytes. Sectors have 512 bytes, as in GRUB.
package struct GrubBIOSFinding: LoaderFinding {
    /// The state of the chain from block 0 to core.img.
    package enum Chain: String, Codable, Sendable {
        /// The boot code points to core.img, and its block list is valid.
        case right
        /// core.img exists, but the boot code or the block list points elsewhere.
        case misdirected
        /// core.img is in its partition, but block 0 holds no boot code.
        case noBootCode
        /// There is GRUB's boot code, or a partition for core.img, but no core.img.
        case noCoreImage
        /// Boot code other than GRUB's: not changed.
        case foreign
        /// The disk is not meant to boot by BIOS.
        case absent
    }

    /// The state of the chain.
    package var chain: Chain
    /// The problem, as a sentence part.
    package var problem: String?
    /// The kind of code in block 0.
    package var bootCode: GrubBootSector.Kind
    /// The number of the BIOS boot partition.
    package var biosBootPartition: Int?
    /// The first sector of core.img.
    package var coreSector: UInt64?
    /// The number of its sectors, including the first.
    package var coreSectorCount: UInt64?
    /// The number of runs in its block list.
    package var coreBlockCount: Int
    /// Whether it is the one made by the installed system's grub-install; `nil` if unknown.
    package var isInstalledCore: Bool?
    /// GRUB files on the running machine: `grub-mkimage`, `boot.img`, and the modules, `i386-pc`.
    package var ownTools: [String]

    /// Describes how a disk boots by BIOS.
    package init(
        chain: Chain, problem: String? = nil, bootCode: GrubBootSector.Kind = .none, biosBootPartition: Int? = nil,
        coreSector: UInt64? = nil, coreSectorCount: UInt64? = nil, coreBlockCount: Int = 1,
        isInstalledCore: Bool? = nil,
        ownTools: [String] = []
    ) {
        self.chain = chain
        self.problem = problem
        self.bootCode = bootCode
        self.biosBootPartition = biosBootPartition
        self.coreSector = coreSector
        self.coreSectorCount = coreSectorCount
        self.coreBlockCount = coreBlockCount
        self.isInstalledCore = isInstalledCore
        self.ownTools = ownTools
    }
}
