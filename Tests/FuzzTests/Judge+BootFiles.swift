// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel

extension Judge {
    private static func bytes(_ reader: any BlockReader) throws -> [UInt8] {
        try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 4 << 20)))
    }

    /// An initramfs, read in one part and in small ones: the answer is the same, and within the limits.
    static func initramfs(_ reader: any BlockReader) throws {
        let bytes = try bytes(reader)
        let limits = InitramfsLimits(unpackedByteCount: 8 << 20, entryCount: 1000, nameByteCount: 64 << 10)
        func read(_ step: Int) -> Result<Initramfs, BootFileError> {
            Result { () throws(BootFileError) in
                try InitramfsReader.read(ArrayStream(bytes, step: step), limits: limits)
            }
        }
        let (whole, parts) = (read(1 << 20), read(61))
        switch (whole, parts) {
        case (.success(let one), .success(let other)):
            try demand(one == other, "an initramfs that depends on how it is read")
            try demand(one.names.count <= 1000 && one.files.count <= limits.fileCount, "more than the limits")
            try demand(one.unpackedByteCount <= limits.unpackedByteCount, "more bytes than the limit")
            _ = (one.generator, one.isHostOnly, one.references, one.commandLine)
        // zstd finds some errors only with more input at hand.
        case (.failure, .failure): break
        default: try demand(false, "an initramfs that can be read in one way only")
        }
    }

    /// An EFI program: its sections are inside of it.
    static func efiProgram(_ reader: any BlockReader) throws {
        let bytes = try bytes(reader)
        guard let image = try? PEImage(bytes) else { return }
        for range in image.sections.map(\.range) + [image.certificates].compactMap({ $0 }) {
            try demand(range.lowerBound >= 0 && range.upperBound <= bytes.count, "a section at \(range)")
        }
        for section in image.sections {
            let text = try image.text(of: section.name) { Array(bytes[$0]) }
            if let text { _ = PEImage.sbat(text) }
        }
    }

    /// The files of depmod, separated by "\u{1}" in the order of `KernelModules.fileNames`.
    static func kernelModules(_ reader: any BlockReader) throws {
        let parts = try bytes(reader).split(separator: 1, omittingEmptySubsequences: false).map(Array.init)
        let files = Dictionary(zip(KernelModules.fileNames, parts)) { first, _ in first }
        guard let modules = try? KernelModules(version: "1", files: files) else { return }
        let device = DeviceDriver(
            modalias: "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", driver: "ahci", module: "ahci")
        let needs = [modules.need(of: device), modules.need(ofFilesystem: "ext4")].compactMap { $0 }
        let missing = modules.missing(needs, from: [])
        try demand(Set(missing).count == missing.count, "a module is missing twice")
        let met = modules.unmet(needs, by: Set(missing))
        try demand(met.allSatisfy(\.modules.isEmpty), "with all that is missing, something is still unmet")
        for name in missing { try demand(!modules.isBuiltIn(name), "a built-in module is missing") }
    }
}
