// SPDX-License-Identifier: GPL-3.0-or-later

/// extlinux in the installed system, and the chain from block 0 to it.
package struct ExtlinuxFinding: LoaderFinding {
    /// The code in block 0.
    package var bootCode: MasterBootCode
    /// The number of the partition that holds it.
    package var partition: Int
    /// Its folder in the installed system.
    package var folder: String
    /// Why the partition's boot record does not load it, as a sentence part.
    package var loaderProblem: String?
    /// Whether the partition has a boot record of SYSLINUX.
    package var hasBootRecord = false
    /// The partitions marked to be started: active ones of an MBR, those with the attribute of a GPT.
    package var marked: [Int] = []
    /// The writes that mark this partition and no other; empty if it is so, or cannot be done.
    package var marking: [SectorRun] = []
    /// Whether the installed system has the program.
    package var hasProgram = false
    /// The file with boot code for the disk's table, in the installed system; else on the running machine.
    package var systemBootCode: String?
    package var ownBootCode: String?
    package var configurations: [ExtlinuxConfiguration] = []

    package init(bootCode: MasterBootCode, partition: Int, folder: String) {
        self.bootCode = bootCode
        self.partition = partition
        self.folder = folder
    }

    /// Whether it is the loader of the disk by BIOS. GRUB's boot code starts GRUB.
    var isUsed: Bool {
        bootCode != .grub && (hasBootRecord || bootCode == .activePartition || bootCode == .gptAttribute)
    }
}
