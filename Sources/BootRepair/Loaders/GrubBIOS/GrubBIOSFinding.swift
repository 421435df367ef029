// SPDX-License-Identifier: GPL-3.0-or-later

/// How GRUB starts from a disk by BIOS, as far as the disk's own bytes tell. Sectors are of 512 bytes, as GRUB counts them.
package struct GrubBIOSFinding: LoaderFinding {
    /// How far the chain from block 0 to core.img holds.
    package enum Chain: String, Codable, Sendable {
        /// The boot code looks where core.img lies, and its block list is right.
        case right
        /// core.img is there, but the boot code or the block list looks elsewhere.
        case misdirected
        /// core.img is in its partition, but block 0 holds no boot code.
        case noBootCode
        /// There is GRUB's boot code, or a partition for core.img, but no core.img.
        case noCoreImage
        /// Boot code that is not GRUB's: left alone.
        case foreign
        /// Nothing that is meant to boot by BIOS.
        case absent
    }

    /// How far the chain holds.
    package var chain: Chain
    /// What is wrong with it, as a sentence part.
    package var problem: String?
    /// What the code of block 0 is.
    package var bootCode: GrubBootSector.Kind
    /// The number of the BIOS boot partition.
    package var biosBootPartition: Int?
    /// Where core.img lies.
    package var coreSector: UInt64?
    /// How many sectors it has, the first included.
    package var coreSectorCount: UInt64?
    /// How many runs its block list has.
    package var coreBlockCount: Int
    /// Whether it is the one that the installed system's grub-install made; `nil` where that cannot be seen.
    package var isInstalledCore: Bool?
    /// Parts of GRUB that the running machine has: `grub-mkimage`, `boot.img`, and the modules, `i386-pc`.
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
