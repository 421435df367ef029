// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage
import TestSupport
import Testing

@testable import BootRepair

/// Unified kernel images: read from a FAT that mtools filled, and planned for.
struct UnifiedKernelTests {
    /// A program with these sections, as objcopy lays them out: the headers, then each section at 512 bytes.
    static func image(_ sections: [(String, [UInt8])]) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: 64)
        head.replaceSubrange(0..<2, with: [0x4D, 0x5A])
        head.setLittleEndian(UInt32(64), at: 0x3C)
        var coff: [UInt8] = [0x50, 0x45, 0, 0]
        coff.appendLittleEndian(UInt16(0x8664))
        coff.appendLittleEndian(UInt16(sections.count))
        coff += [UInt8](repeating: 0, count: 12)
        coff.appendLittleEndian(UInt16(240))
        coff.appendLittleEndian(UInt16(0x2022))
        var optional = [UInt8](repeating: 0, count: 240)
        optional.setLittleEndian(UInt16(0x20B), at: 0)
        optional.setLittleEndian(UInt32(16), at: 108)
        var table: [UInt8] = []
        var data: [UInt8] = []
        let start = (64 + 24 + 240 + 40 * sections.count + 511) / 512 * 512
        for (name, bytes) in sections {
            let padded = bytes + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
            var row = Array(name.utf8) + [UInt8](repeating: 0, count: 8 - name.utf8.count)
            row.appendLittleEndian(UInt32(bytes.count))
            row.appendLittleEndian(UInt32(0x1_0000 + data.count))
            row.appendLittleEndian(UInt32(padded.count))
            row.appendLittleEndian(UInt32(start + data.count))
            row += [UInt8](repeating: 0, count: 12)
            row.appendLittleEndian(UInt32(0x4000_0040))
            table += row
            data += padded
        }
        let headers = head + coff + optional + table
        return headers + [UInt8](repeating: 0, count: start - headers.count) + data
    }

    static func kernel(_ commandLine: String, version: String = "6.1.0-18-amd64", id: String = "debian") -> [UInt8] {
        image([
            (".osrel", Array("ID=\(id)\nPRETTY_NAME=\"Debian of a test\"\n".utf8)),
            (".cmdline", Array(commandLine.utf8)),
            (".uname", Array(version.utf8)), (".linux", [UInt8](repeating: 7, count: 5000)),
            (".initrd", [UInt8](repeating: 8, count: 3000)),
        ])
    }

    private static let tools = ["sfdisk", "mkfs.fat", "mmd", "mcopy"]

    /// A GPT disk in a file with an EFI system partition of 34 MiB that holds these files.
    static func withESP(_ files: [(String, [UInt8])], _ body: (BlockDevice, BootVolume) throws -> Void) throws {
        let folder = try Files.makeTemporaryFolder("reforge-esp-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        let image = folder.appending("disk.raw")
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 36 << 20)
        }
        func run(_ command: [String], _ input: String = "") throws {
            let output = try ChildProcess.run(command, input: Array(input.utf8))
            try #require(output.succeeded, "\(command): \(output.lastWords)")
        }
        try run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string],
            "label: gpt\nunit: sectors\nstart=2048, size=69632, type=\(PartitionType.efiSystem)\n")
        try run(["mkfs.fat", "-F", "32", "-s", "1", "--offset", "2048", image.string, "\(34 << 10)"])
        let volume = "\(image)@@\(1 << 20)"
        var made: Set<String> = []
        for (path, bytes) in files {
            var parent = ""
            for part in path.split(separator: "/").dropLast() {
                parent += "/\(part)"
                if made.insert(parent).inserted { try run(["mmd", "-i", volume, "::\(parent)"]) }
            }
            let file = folder.appending("file")
            try Files.write(bytes, to: file)
            try run(["mcopy", "-i", volume, file.string, "::/\(path)"])
        }
        let disk = try BlockDevice(opening: image)
        let table = try PartitionTableReader.read(disk)
        let esp = try #require(table.partitions.first)
        try body(
            disk,
            BootVolume(
                number: 1, range: esp.range, typeGUID: esp.typeGUID, guid: esp.guid, kind: .fat32, kindName: "vfat"))
    }

    @Test(.enabled(if: tools.allSatisfy(ChildProcess.canFind), "needs sfdisk, dosfstools and mtools"))
    func readFromFAT() throws {
        let one = Self.kernel("root=UUID=\(Fixture.rootUUID) ro\n")
        let files: [(String, [UInt8])] = [
            ("EFI/Linux/one.efi", one), ("EFI/Linux/other.efi", Array(one.reversed())),
            ("EFI/Linux/notes.txt", [1]), ("EFI/BOOT/BOOTX64.EFI", one),
            ("EFI/systemd/systemd-bootx64.efi", Array("systemd-boot".utf8)),
            ("loader/random-seed", [1, 2]), ("loader/loader.conf", Array("timeout 0\ndefault one*\n".utf8)),
            ("loader/entries/one.conf", Array("title x\nlinux /there\ninitrd /missing\noptions root=/dev/sda3\n".utf8)),
            ("there", [1]), ("EFI/Linux/large.efi", [UInt8](repeating: 1, count: 3_000_000)),
        ]
        try Self.withESP(files) { disk, volume in
            let contents = ESPReader.read(disk, volume: volume)
            #expect(contents.survey.problem == nil)
            // The images are not held with the loaders.
            #expect(contents.survey.loaders.map(\.path) == ["\\EFI\\systemd\\systemd-bootx64.efi"])
            #expect(contents.survey.fallback == .copy(of: "\\EFI\\Linux\\one.efi"))
            #expect(contents.survey.fallbackIsSigned == false)
            let scene = BootScene(disk: disk, volumes: [volume], hasGPT: true, esp: contents, system: nil, tree: nil)
            let finding = try #require(try UnifiedKernels().survey(scene))
            let image = try #require(finding.images.first { $0.name == "one.efi" })
            #expect(image.commandLine == "root=UUID=\(Fixture.rootUUID) ro" && image.version == "6.1.0-18-amd64")
            #expect(image.systemID == "debian" && image.hasInitramfs && !image.isSigned && image.problem == nil)
            #expect(image.words.map(\.text) == ["root=UUID=\(Fixture.rootUUID)"])
            #expect(finding.images.filter { $0.problem != nil }.map(\.name) == ["large.efi", "other.efi"])
            #expect(finding.fallback?.path == "\\EFI\\BOOT\\BOOTX64.EFI")
            let boot = try #require(try SystemdBoot().survey(scene))
            #expect(boot.loader?.folder == "systemd" && boot.hasSeed && boot.defaultEntry == "one*")
            #expect(boot.entries.map(\.missing) == [["/missing"]] && boot.entries[0].words.count == 1)
        }
    }

    @Test(.enabled(if: tools.allSatisfy(ChildProcess.canFind), "needs sfdisk, dosfstools and mtools"))
    func partsOfAFile() throws {
        var generator = SeededGenerator(seed: 13)
        let bytes = (0..<300_001).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        try Self.withESP([("a/FILE.BIN", bytes), ("a/same", bytes), ("a/less", Array(bytes.dropLast())), ("empty", [])])
        {
            disk, volume in
            let fat = try FATVolume(try #require(BlockSlice(disk, range: volume.range)))
            let file = try FATFile("/A/file.bin", in: fat)
            #expect(file.byteCount == 300_001)
            for _ in 0..<50 {
                let start = Int.random(in: 0...310_000, using: &generator)
                let count = Int.random(in: 0...70_000, using: &generator)
                let wanted = bytes.dropFirst(start).prefix(count)
                #expect(try file.read(at: UInt64(start), count: count) == Array(wanted))
            }
            #expect(try file.isEqual(to: FATFile("/a/same", in: fat)))
            #expect(try !file.isEqual(to: FATFile("/a/less", in: fat)))
            #expect(try FATFile("empty", in: fat).read(at: 0, count: 1) == [])
            #expect(try fat.exists("/a") && !fat.exists("/b/c"))
            #expect(throws: FilesystemError.self) { _ = try FATFile("/a", in: fat) }
            #expect(throws: FilesystemError.self) { _ = try FATFile("/a/same", in: fat, limit: 1000) }
        }
    }

    static func survey(_ commandLine: String, _ change: (inout UnifiedKernelsFinding) -> Void = { _ in }) throws
        -> SystemBootSurvey
    {
        var survey = LoaderEntryTests.survey([]) { ($0.loader, $0.isFallback, $0.kernelFiles) = (nil, false, [:]) }
        survey.findings[SystemdBoot()] = nil
        survey.esp = ESPSurvey(partition: 2)
        survey.nvram?.entries = []
        var finding = UnifiedKernelsFinding()
        for version in ["6.9.1", "6.10.0"] {
            var image = UnifiedKernel(
                try .init(kernel(commandLine, version: version)), path: "\\EFI\\Linux\\\(version).efi", partition: 2
            ) { name in [".osrel": "ID=debian", ".cmdline": commandLine, ".uname": version][name] }
            image.isOwn = true
            finding.images.append(image)
        }
        finding.hasKernelInstall = true
        finding.kernelFiles = ["6.9.1": "/boot/vmlinuz-6.9.1", "6.10.0": "/boot/vmlinuz-6.10.0"]
        finding.commandLineFile = "/etc/kernel/cmdline"
        change(&finding)
        survey.findings[UnifiedKernels()] = finding
        return survey
    }

    /// The images are in no vendor's folder: their own row knows whether they are signed.
    @Test func secureBootNeedsASignedImage() throws {
        for isSigned in [true, false] {
            let survey = try Self.survey("root=UUID=\(Fixture.rootUUID)") { finding in
                for index in finding.images.indices { finding.images[index].isSigned = isSigned }
            }
            var options = Fixture.medium(.uefi)
            options.machine = MachineRecord(firmware: .uefi, secureBoot: true)
            let plan = BootRepair.plan(survey, options: options)
            let found = plan.findings.filter { $0.code == "secure-boot-unsigned" }
            #expect(found.map(\.evidence?.file) == (isSigned ? [] : ["\\EFI\\Linux\\6.10.0.efi"]), "\(plan)")
            #expect(isSigned || plan.pendingReason?.contains("Secure Boot") == true, "\(plan)")
        }
    }

    /// The newest by its numbers becomes the fallback loader and an entry.
    @Test func firmwareStartsTheNewest() throws {
        let plan = LoaderEntryTests.plan(try Self.survey("root=UUID=\(Fixture.rootUUID)"))
        let steps = plan.steps.map(\.description)
        #expect(
            steps.count == 2 && steps.allSatisfy { $0.contains("6.10.0.efi") || $0.contains("EFI\\Linux") }, "\(plan)")
        #expect(plan.pendingReason == nil)
        // Without room for a copy, only the entry is made.
        let large = LoaderEntryTests.plan(
            try Self.survey("root=UUID=\(Fixture.rootUUID)") { $0.images[1].byteCount = 33 << 20 })
        #expect(large.steps.count == 1 && large.findings.contains { $0.code == "fallback-missing" }, "\(large)")
        // A foreign fallback loader stays, and the entry is needed.
        var survey = try Self.survey("root=UUID=\(Fixture.rootUUID)")
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        let other = LoaderEntryTests.plan(survey)
        #expect(other.steps.count == 1 && "\(other.steps[0])".contains("firmware boot entry"), "\(other)")
    }

    @Test func aLostReferenceIsBuiltAgain() throws {
        let lost = "root=PARTUUID=5eed0009-0000-4000-8000-000000000009"
        let plan = LoaderEntryTests.plan(try Self.survey(lost))
        #expect(plan.findings.filter { $0.code == "uki-reference-lost" }.count == 2, "\(plan)")
        #expect(plan.steps.contains { "\($0)".contains("kernel-install add 6.10.0 /boot/vmlinuz-6.10.0") })
        // Signed by another: a new one would not start with Secure Boot.
        let signed = LoaderEntryTests.plan(try Self.survey(lost) { $0.images[0].isSigned = true })
        #expect(signed.steps.filter { "\($0)".contains("kernel-install") }.count == 1, "\(signed)")
        let own = LoaderEntryTests.plan(
            try Self.survey(lost) {
                $0.images[0].isSigned = true
                $0.hasSigning = true
            })
        #expect(own.steps.filter { "\($0)".contains("kernel-install") }.count == 2)
        // Without a command line of its own, a build would take that of this start.
        let without = LoaderEntryTests.plan(try Self.survey(lost) { $0.commandLineFile = nil })
        #expect(!without.steps.contains { "\($0)".contains("kernel-install") })
    }
}
