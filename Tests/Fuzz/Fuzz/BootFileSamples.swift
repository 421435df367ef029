// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem

/// Boot files to begin with.
enum BootFileSamples {
    /// An archive, plain and in formats that Reforge unpacks itself.
    static var initramfs: [[UInt8]] {
        let plain = Archive.sample()
        let compressed = [["zstd", "-qc"], ["xz", "--check=crc32", "-c"], ["lzma", "-c"]].compactMap { command in
            try? ChildProcess.run(command, input: plain).standardOutput
        }
        return [plain] + compressed.map { Archive.entry("microcode", [1]) + Archive.trailer + $0 }
    }

    /// The headers of a unified kernel image of two sections.
    static var program: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        bytes.replaceSubrange(0..<2, with: [0x4D, 0x5A])
        bytes.setLittleEndian(0x40 as UInt32, at: 0x3C)
        bytes.replaceSubrange(0x40..<0x44, with: [0x50, 0x45, 0, 0])
        bytes.setLittleEndian(0x8664 as UInt16, at: 0x44)
        bytes.setLittleEndian(2 as UInt16, at: 0x46)
        bytes.setLittleEndian(240 as UInt16, at: 0x54)
        bytes.setLittleEndian(0x20B as UInt16, at: 0x58)
        bytes.setLittleEndian(16 as UInt32, at: 0x58 + 108)
        bytes.setLittleEndian(1000 as UInt32, at: 0x58 + 112 + 32)
        bytes.setLittleEndian(16 as UInt32, at: 0x58 + 112 + 36)
        for (index, name) in [".cmdline", ".sbat"].enumerated() {
            let header = 0x58 + 240 + index * 40
            bytes.replaceSubrange(header..<header + name.utf8.count, with: Array(name.utf8))
            bytes.setLittleEndian(20 as UInt32, at: header + 8)
            bytes.setLittleEndian(512 as UInt32, at: header + 16)
            bytes.setLittleEndian(UInt32(512 + index * 20), at: header + 20)
        }
        bytes.replaceSubrange(512..<532, with: Array("root=UUID=x quiet ro".utf8))
        bytes.replaceSubrange(532..<552, with: Array("sbat,1,SBAT\nshim,4,\n".utf8))
        return bytes
    }

    static let modules = """
        a/ahci.ko: a/libahci.ko
        a/libahci.ko.xz:
        a/ext4.ko:
        \u{1}alias pci:v*d*sv*sd*bc01sc06i[0-9]1* ahci
        alias fs-ext4 ext4
        \u{1}kernel/a/sd_mod.ko
        \u{1}softdep ext4 pre: crc32c post: y
        \u{1}sd_mod.alias=scsi:t-0x00*\u{0}
        """
}
