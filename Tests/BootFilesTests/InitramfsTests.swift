// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Testing

@testable import BootFiles

@Suite struct InitramfsTests {
    @Test(arguments: [1, 3, 7, 4096, 1 << 18]) func plainArchives(_ step: Int) throws {
        let initramfs = try Archive.read(Archive.sample(), step: step)
        #expect(initramfs.modules(for: "6.1.0-1-amd64") == ["libahci", "dm_mod"])
        #expect(initramfs.modules(for: "6.1.0-2-amd64").isEmpty)
        #expect(initramfs.generator == .initramfsTools && initramfs.isHostOnly == false)
        #expect(
            initramfs.references == [
                InitramfsReference(file: "conf/conf.d/resume", target: .device("UUID=abcd-1234"), purpose: .resume)
            ])
        #expect(initramfs.names.contains("conf") && initramfs.unpackedByteCount == UInt64(Archive.sample().count))
        #expect(initramfs.files["usr/lib/modules/6.1.0-1-amd64/modules.dep"] == nil, "only wanted files are kept")
    }

    /// Microcode first, NUL bytes up to the next page, and another archive.
    @Test func segmentsWithPadding() throws {
        var bytes = Archive.entry("kernel/x86/microcode/GenuineIntel.bin", [1, 2, 3, 4, 5]) + Archive.trailer
        Archive.pad(&bytes, to: 4096)
        bytes += [UInt8](repeating: 0, count: 4096)
        let initramfs = try Archive.read(bytes + Archive.sample())
        #expect(initramfs.names.contains("kernel/x86/microcode/GenuineIntel.bin"))
        #expect(initramfs.modules(for: "6.1.0-1-amd64").count == 2 && initramfs.compressions.isEmpty)
    }

    /// Linux goes round until the end of the file: an archive may be appended to a compressed one, and another to that.
    @Test(
        arguments: [["zstd", "-qc"], ["xz", "-c", "--check=crc32"], ["xz", "--format=lzma", "-c"]],
        [1, 5, 4096, 1 << 18])
    func archivesBehindACompressedOne(_ command: [String], _ step: Int) throws {
        func compressed(_ bytes: [UInt8]) throws -> [UInt8] {
            let output = try ChildProcess.run(command, input: bytes)
            try #require(output.succeeded, "\(output.lastWords)")
            return output.standardOutput
        }
        var bytes = try compressed(Archive.sample())
        Archive.pad(&bytes)
        bytes += Archive.entry("etc/key", [1, 2, 3]) + Archive.trailer
        bytes += try compressed(Archive.entry("etc/other") + Archive.trailer)
        let initramfs = try Archive.read(bytes, step: step)
        #expect(initramfs.names.contains("etc/key") && initramfs.names.contains("etc/other"))
        #expect(initramfs.modules(for: "6.1.0-1-amd64").count == 2 && initramfs.compressions.count == 2)
        // What Linux does not take for a segment is damage.
        #expect(throws: BootFileError.self) { try Archive.read(bytes + Array("junk".utf8), step: step) }
        Archive.pad(&bytes)
        #expect(throws: BootFileError.self) { try Archive.read(bytes + [0] + Archive.sample(), step: step) }
    }

    @Test func damageIsAnError() {
        let sample = Archive.sample()
        for count in [0, 1, 5, 6, 109, 110, 120, sample.count / 2, sample.count - 140] {
            #expect(throws: BootFileError.self, "\(count) bytes") {
                let initramfs = try Archive.read(Array(sample[..<count]))
                // A cut between two entries is none to see.
                if count > 6, initramfs.names.count < 7 { throw BootFileError.damaged(what: "shorter") }
            }
        }
        var noDigits = sample
        noDigits[6 + 6 * 8] = 0x7A
        #expect(throws: BootFileError.self) { try Archive.read(noDigits) }
        var longName = sample
        longName.replaceSubrange(6 + 11 * 8..<14 + 11 * 8, with: Array("FFFFFFFF".utf8))
        #expect(throws: BootFileError.self) { try Archive.read(longName) }
        var longFile = sample
        longFile.replaceSubrange(6 + 6 * 8..<14 + 6 * 8, with: Array("FFFFFFFF".utf8))
        #expect(throws: BootFileError.self) { try Archive.read(longFile) }
        #expect(throws: BootFileError.self) { try Archive.read([UInt8](repeating: 0, count: 1 << 20)) }
        #expect(throws: BootFileError.self) { try Archive.read(Array("hello".utf8)) }
        #expect(throws: BootFileError.self) { try Archive.read([0x28, 0xB5, 0x2F, 0xFD, 1, 2, 3]) }
    }

    @Test func limitsHold() throws {
        let sample = Archive.sample()
        let bounds: [InitramfsLimits] = [
            InitramfsLimits(unpackedByteCount: UInt64(sample.count) - 200), InitramfsLimits(entryCount: 3),
            InitramfsLimits(nameByteCount: 20),
        ]
        for limits in bounds {
            #expect {
                try Archive.read(sample, limits: limits)
            } throws: {
                if case .tooLarge = $0 as? BootFileError { true } else { false }
            }
        }
        #expect(try Archive.read(sample, limits: InitramfsLimits(fileCount: 0)).files.isEmpty)
        #expect(try Archive.read(sample, limits: InitramfsLimits(fileByteCount: 25)).files.count == 1)
    }

    /// A program is needed for these, and the default has none.
    @Test func missingProgramsAreNamed() {
        #expect(throws: BootFileError.noDecoder(format: "gzip", program: "gzip")) {
            try Archive.read([0x1F, 0x8B, 8, 0, 0, 0, 0, 0])
        }
    }

    @Test func generators() throws {
        func read(_ files: (String, String)...) throws -> Initramfs {
            try Archive.read(files.flatMap { Archive.entry($0.0, Array($0.1.utf8)) } + Archive.trailer)
        }
        let dep = try read(("conf/initramfs.conf", "MODULES=most\n"), ("conf/conf.d/driver-policy", "MODULES=dep\n"))
        #expect(dep.generator == .initramfsTools && dep.isHostOnly == true)
        let list = try read(("conf/initramfs.conf", "MODULES=list\n"))
        #expect(list.generator == .initramfsTools && list.isHostOnly == nil)
        let generic = try read(("usr/lib/dracut/build-parameter.txt", "'--no-hostonly' '--force'\n"))
        #expect(generic.generator == .dracut && generic.isHostOnly == false)
        let hostOnly = try read(
            ("usr/lib/dracut/build-parameter.txt", " \n"), ("usr/lib/dracut/hostonly-kernel-modules.txt", "ext4\n"))
        #expect(hostOnly.generator == .dracut && hostOnly.isHostOnly == true)
        let arch = try read(("buildconfig", "HOOKS=(base autodetect)\n"), ("hooks/udev", ""))
        #expect(arch.generator == .mkinitcpio && arch.isHostOnly == nil)
        #expect(try read(("init", "x")).generator == .unknown)
    }

    @Test func referencesToDisks() throws {
        let files = [
            ("cryptroot/crypttab", "# x\nroot UUID=ABCD none luks\nswap /dev/sda4 none\n"),
            ("etc/cmdline.d/90crypt.conf", "rd.luks.uuid=luks-1234 rd.lvm.lv=vg/root rd.lvm.lv=vg/root\n"),
            ("etc/cmdline.d/95root.conf", "root=block:/dev/sda1 resume=UUID=x rw\n"),
            ("etc/mdadm/mdadm.conf", "HOMEHOST <system>\nARRAY /dev/md0 UUID=00112233:44556677:8899AABB:CCDDEEFF\n"),
            ("conf/conf.d/resume", "RESUME=none\n"),
        ]
        let initramfs = try Archive.read(
            files.flatMap { Archive.entry($0.0, Array($0.1.utf8)) } + Archive.trailer)
        #expect(
            initramfs.references.map(\.target) == [
                .luks("abcd"), .device("/dev/sda4"), .luks("1234"), .logicalVolume("vg/root"), .device("/dev/sda1"),
                .device("UUID=x"), .array("00112233445566778899aabbccddeeff"),
            ])
        #expect(initramfs.references.map(\.purpose).filter { $0 == .resume }.count == 1)
        #expect(initramfs.commandLine.first == "rd.luks.uuid=luks-1234" && initramfs.commandLine.last == "rw")
    }
}
