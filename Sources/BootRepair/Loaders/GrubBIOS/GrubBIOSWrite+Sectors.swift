// SPDX-License-Identifier: GPL-3.0-or-later

extension GrubBIOSWrite {
    /// The sectors: core.img first and block 0 last, which thus never points to a missing core.img.
    var verb: BootVerb {
        .writeSectors(
            SectorWrites(
                [coreRun, bootRun],
                done: "repaired the BIOS boot chain: boot code → core.img at sector \(coreSector)",
                failure: "the BIOS boot chain could not be written"))
    }

    private var coreRun: SectorRun {
        switch core {
        case .onDisk(let sectorCount):
            let sentence = "core.img at sector \(coreSector) does not fit its place"
            return SectorRun(
                sector: coreSector, endSector: endSector, source: .present(sectorCount: sectorCount),
                patches: GrubCoreImage.patches(at: coreSector, blockCount: blockCount), unsuitable: sentence,
                tooLong: sentence)
        case .file(let path):
            return GrubCoreImage.run(from: .systemFile(path), at: coreSector, endSector: endSector)
        case .made(let folder, let prefix, let modules):
            let inputs: BuiltFile.Inputs =
                if let folder {
                    .system(folder, endings: GrubBIOS.moduleEndings, name: "the GRUB modules")
                } else {
                    .own(GrubBIOS.ownFolder)
                }
            let arguments: [BuiltFile.Word] = [
                "-O", "i386-pc", "-d", .inputs, "-p", .text(prefix), "-o", .result,
            ]
            let file = BuiltFile(
                "core.img", from: inputs, by: "grub-mkimage", arguments + modules.map { BuiltFile.Word.text($0) })
            return GrubCoreImage.run(from: .built(file), at: coreSector, endSector: endSector)
        }
    }

    private var bootRun: SectorRun {
        switch bootImage {
        case .kept: GrubBootSector.run(lookingForCoreAt: coreSector)
        case .file(let path): GrubBootSector.run(from: .systemFile(path), lookingForCoreAt: coreSector)
        case .medium:
            GrubBootSector.run(from: .ownFile("\(GrubBIOS.ownFolder)/boot.img"), lookingForCoreAt: coreSector)
        }
    }
}
