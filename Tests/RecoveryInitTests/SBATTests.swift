// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

/// `build-media` refuses loaders that firmware revokes (initramfs/sbat.py), on made-up EFI programs.
@Suite(.enabled(if: has("python3"), "needs python3")) struct SBATTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try Files.write(Array("# today's\nsbat,1\nshim,4\ngrub,5\n".utf8), to: folder.file("minimum"))
    }

    /// A PE file with these sections: DOS header, PE header at 64, no optional header, sections of 512 bytes.
    private static func program(_ sections: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        func word(_ value: Int, _ count: Int = 4) -> [UInt8] { (0..<count).map { UInt8(value >> (8 * $0) & 255) } }
        // The string table of long names lies at its very end: `/4` is the first one in it.
        let strings = 512 * (sections.count + 1)
        var head = [UInt8](repeating: 0, count: 60) + word(64) + Array("PE\0\0".utf8)
        head += word(0x8664, 2) + word(sections.count, 2) + word(0) + word(strings) + word(0) + word(0, 2) + word(0, 2)
        for (index, section) in sections.enumerated() {
            let name = section.name.utf8.count > 8 ? "/4" : section.name
            head += Array(name.utf8) + [UInt8](repeating: 0, count: 8 - name.utf8.count)
            head += word(section.bytes.count) + word(0) + word(512) + word(512 * (index + 1)) + word(0, 16)
        }
        var file = head + [UInt8](repeating: 0, count: 512 - head.count)
        for section in sections { file += section.bytes + [UInt8](repeating: 0, count: 512 - section.bytes.count) }
        let long = sections.first { $0.name.utf8.count > 8 }?.name ?? ""
        return file + word(0) + Array(long.utf8) + [0]
    }

    private static func sbat(_ rows: String) -> (name: String, bytes: [UInt8]) { (".sbat", Array(rows.utf8)) }

    /// Version 0, offsets behind it to the previous and the latest list.
    private static func level(previous: String, latest: String) -> (name: String, bytes: [UInt8]) {
        let first = Array(previous.utf8) + [0]
        let head: [UInt8] = [0, 0, 0, 0, 8, 0, 0, 0, UInt8(8 + first.count), 0, 0, 0]
        return (".sbatlevel", head + first + Array(latest.utf8) + [0])
    }

    private func judge(
        shim: [(name: String, bytes: [UInt8])], grub: [(name: String, bytes: [UInt8])]
    ) throws -> (succeeded: Bool, text: String) {
        let (first, second) = (folder.file("shimx64.efi"), folder.file("grubx64.efi"))
        try Files.write(Self.program(shim), to: first)
        try Files.write(Self.program(grub), to: second)
        let script = projectRoot.appending("initramfs").appending("sbat.py")
        let output = try ChildProcess.run(
            ["python3", "-B", script.string, folder.file("minimum").string, first.string, second.string])
        return (output.succeeded, String(decoding: output.standardError, as: UTF8.self))
    }

    @Test func printsGenerationsAndRefusesRevokedOnes() throws {
        let level = Self.level(previous: "sbat,1,2025021800\nshim,4\n", latest: "sbat,1,2025051000\ngrub,5\n")
        let (shim, grub) = (Self.sbat("sbat,1,x\nshim,4,y\n"), Self.sbat("sbat,1,x\ngrub,5,y\ngrub.debian,5,z\n"))
        let good = try judge(shim: [shim, level], grub: [grub])
        #expect(good.succeeded && good.text.contains("shimx64.efi: sbat,1 shim,4\n"), "\(good.text)")
        #expect(good.text.contains("grubx64.efi: sbat,1 grub,5 grub.debian,5"), "\(good.text)")
        let old = try judge(shim: [Self.sbat("sbat,1,x\nshim,3,y\n"), level], grub: [grub])
        #expect(!old.succeeded && old.text.contains("shim is of generation 3, minimum is 4"), "\(old.text)")
        let oldGrub = try judge(shim: [shim, level], grub: [Self.sbat("sbat,1,x\ngrub,4,y\n")])
        #expect(!oldGrub.succeeded && oldGrub.text.contains("grub is of generation 4"), "\(oldGrub.text)")
        // What the shim itself would revoke, by the newer of its lists.
        let newer = Self.level(previous: "sbat,1\n", latest: "sbat,1,2026010100\ngrub,6\n")
        let own = try judge(shim: [shim, newer], grub: [grub])
        #expect(!own.succeeded && own.text.contains("the shim's own level is 6"), "\(own.text)")
    }

    @Test func refusesWhatHasNoGenerations() throws {
        let (shim, grub) = (Self.sbat("sbat,1,x\nshim,4,y\n"), Self.sbat("sbat,1,x\ngrub,5,y\n"))
        #expect(try !judge(shim: [(".text", [1])], grub: [grub]).succeeded)
        #expect(try !judge(shim: [shim], grub: [(".text", [1])]).succeeded)
        let other = try judge(shim: [grub], grub: [grub])
        #expect(!other.succeeded && other.text.contains("is no shim"), "\(other.text)")
    }
}
