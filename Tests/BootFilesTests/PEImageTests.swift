// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import SystemPackage
import Testing

@testable import BootFiles

@Suite struct PEImageTests {
    /// A small PE32+ file with these sections; `signed` adds a certificate table at the end.
    static func image(_ sections: [(String, [UInt8])], signed: Bool = false) -> [UInt8] {
        let start = 0x80
        var head = [UInt8](repeating: 0, count: 0x400)
        head.replaceSubrange(0..<2, with: [0x4D, 0x5A])
        head.setLittleEndian(UInt32(start), at: 0x3C)
        head.replaceSubrange(start..<start + 4, with: [0x50, 0x45, 0, 0])
        head.setLittleEndian(0x8664 as UInt16, at: start + 4)
        head.setLittleEndian(UInt16(sections.count), at: start + 6)
        head.setLittleEndian(240 as UInt16, at: start + 20)
        head.setLittleEndian(0x20B as UInt16, at: start + 24)
        head.setLittleEndian(16 as UInt32, at: start + 24 + 108)
        var body: [UInt8] = []
        for (index, (name, bytes)) in sections.enumerated() {
            let header = start + 24 + 240 + index * 40
            head.replaceSubrange(header..<header + name.utf8.count, with: Array(name.utf8))
            head.setLittleEndian(UInt32(bytes.count), at: header + 8)
            head.setLittleEndian(UInt32((bytes.count + 511) / 512 * 512), at: header + 16)
            head.setLittleEndian(UInt32(head.count + body.count), at: header + 20)
            body += bytes + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
        }
        if signed {
            head.setLittleEndian(UInt32(head.count + body.count), at: start + 24 + 112 + 32)
            head.setLittleEndian(16 as UInt32, at: start + 24 + 112 + 36)
            body += [UInt8](repeating: 1, count: 16)
        }
        return head + body
    }

    @Test func sectionsOfAUnifiedKernel() throws {
        let bytes = Self.image(
            [
                (".osrel", Array("ID=debian\n".utf8)), (".cmdline", Array(" root=UUID=x quiet\n\0".utf8)),
                (".linux", [UInt8](repeating: 7, count: 1000)), (".initrd", Archive.sample()),
            ], signed: true)
        let image = try PEImage(bytes)
        #expect(image.machine == .x86_64 && image.isUnifiedKernel && image.isSigned)
        #expect(try image.text(of: ".cmdline") { Array(bytes[$0]) } == "root=UUID=x quiet")
        #expect(try image.text(of: ".uname") { Array(bytes[$0]) } == nil)
        #expect(image.section(".linux")?.range.count == 1000)
        let initrd = try #require(image.section(".initrd")?.range)
        #expect(try InitramfsReader.read(ArrayStream(bytes, initrd)).generator == .initramfsTools)
        #expect(try !PEImage(Self.image([(".text", [1])])).isUnifiedKernel)
    }

    @Test func damageIsAnError() throws {
        let bytes = Self.image([(".linux", [UInt8](repeating: 7, count: 1000))])
        for count in [0, 1, 2, 0x3F, 0x84, 0x98, 0x1A0, 0x500] {
            #expect(throws: BootFileError.self, "\(count)") { try PEImage(Array(bytes[..<count])) }
        }
        // Each number of the headers at its greatest.
        for offset in [0x3C, 0x86, 0x94, 0x80 + 24 + 240 + 16, 0x80 + 24 + 240 + 20] {
            var broken = bytes
            broken.replaceSubrange(offset..<offset + 4, with: [0xFF, 0xFF, 0xFF, 0xFF])
            _ = try? PEImage(broken)
        }
        var far = bytes
        far.setLittleEndian(UInt32.max, at: 0x80 + 24 + 240 + 20)
        #expect(throws: BootFileError.self) { try PEImage(far) }
    }

    @Test func generations() {
        let found = PEImage.sbat("sbat,1,SBAT Version,sbat,1,https://x\nshim,4,UEFI shim,shim,16.1,y\nbad\nx,y\n")
        #expect(found.map(\.component) == ["sbat", "shim"] && found.map(\.generation) == [1, 4])
    }

    /// binutils as the judge: the sections of an EFI program, and those that objcopy adds.
    @Test(
        .enabled(
            if: ChildProcess.canFind("objcopy") && ChildProcess.canFind("objdump") && Judge.program != nil,
            "needs binutils and an EFI program (grub-efi-amd64-bin)"))
    func sectionsAsBinutilsSeesThem() throws {
        let program = try #require(Judge.program)
        let folder = try Files.makeTemporaryFolder("reforge-pe")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        let line = folder.appending("cmdline")
        try Files.write(Array("root=LABEL=x".utf8), to: line)
        let made = folder.appending("made.efi")
        let result = try ChildProcess.run([
            "objcopy", "--add-section", ".cmdline=\(line)", "--set-section-flags", ".cmdline=data,readonly",
            "--change-section-vma", ".cmdline=0x30000000", program.string, made.string,
        ])
        try #require(result.succeeded, "\(result.lastWords)")
        let bytes = try Files.read(made, limit: 64 << 20)
        let image = try PEImage(bytes)
        #expect(try image.text(of: ".cmdline") { Array(bytes[$0]) } == "root=LABEL=x")
        let listed = try ChildProcess.run(["objdump", "-h", made.string]).text.split(separator: "\n")
            .map { $0.split(separator: " ") }.filter { $0.count == 7 && Int($0[0]) != nil }
        #expect(listed.count == image.sections.count)
        for (words, section) in zip(listed, image.sections) {
            #expect(words[1] == section.name && Int(words[5], radix: 16) == section.range.lowerBound)
        }
    }

    private enum Judge {
        static let program: FilePath? = [
            "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "/usr/lib/grub/x86_64-efi/monolithic/gcdx64.efi",
        ].first { Files.exists($0) }
    }
}
