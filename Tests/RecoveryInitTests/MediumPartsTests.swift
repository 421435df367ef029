// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

@Suite struct SecretFilterTests {
    @Test(arguments: [
        ("http://user:pa/ss@host/x?sig=1#f rest", "http://***@host/x?*** rest"),
        ("at https://host:8080/a/b.img.zst, 5 bytes", "at https://host:8080/a/b.img.zst, 5 bytes"),
        ("\"http://host/a?token=1\" http://me@h", "\"http://host/a?***\" http://***@h"),
        ("reforge.restore=http://h/i?k=v reforge.target=any", "reforge.restore=http://h/i?*** reforge.target=any"),
        ("http://host/mail@home/x", "http://host/mail@home/x"),
        ("systemd.set_credential=a:b root=UUID=1", "systemd.set_credential=*** root=UUID=1"),
        ("x.password=\"my secret words\" quiet", "x.password=*** quiet"),
        ("\"x.passphrase=my secret words\" quiet", "\"x.passphrase=*** quiet"),
        ("x.token=\"a b\tsecret", "x.token=***"), ("a=\"b x.psk=secret", "a=\"b x.psk=***"),
        ("rootflags=username=a,password=secret rw", "rootflags=username=a,password=*** rw"),
        ("a\tx.password=secret\tb", "a\tx.password=***\tb"), ("root=x tokens are none", "root=x tokens are none"),
        ("://", "://"), ("", ""), ("a://b?", "a://b?***"),
    ]) func leavesSecretsOut(_ text: String, _ expected: String) {
        #expect(SecretFilter.filtered(text) == expected)
    }

    @Test func leavesTypedPasswordsOut() {
        let log = """
            Number: [tty0] 1
            (tty0; an empty line returns to the menu) Password (it shows as you type): [tty0] secret
            Waiting for the volume
            [tty0] secret again
            (tty0; an empty line returns to the menu) Number: [tty0] 2
            [tty0] 3
            """
        let filtered = SecretFilter.filtered(log)
        #expect(!filtered.contains("secret"))
        #expect(filtered.contains("Waiting for the volume\n[tty0] ***\n"))
        #expect(filtered.hasSuffix("Number: [tty0] 2\n[tty0] 3"))
    }

    /// Programs end their lines in other ways, and rewrite them.
    @Test(arguments: ["\r\n", "\r"]) func leavesThemOutBehindOtherLineEnds(_ end: String) {
        let log = "(tty0) Password (it shows as you type): [tty0] secret\n5 %\(end)[tty0] secret\nx"
        #expect(!SecretFilter.filtered(log).contains("secret"))
    }

    @Test func anyBytesAreFine() {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<2000 {
            let pieces = [
                "://", "@", "?", "/", "=", "token", "[tty0]", "it shows as you type", "\n", " ", "é", "#", ":",
            ]
            let text = (0..<Int.random(in: 0..<12, using: &random)).map { _ in
                pieces.randomElement(using: &random) ?? ""
            }.joined()
            _ = SecretFilter.filtered(text)
        }
    }
}

@Suite struct MissingFirmwareTests {
    private static func record(_ text: String) -> KernelLog.Record? { KernelLog.Record(Array(text.utf8)[...]) }

    @Test func readsRecords() throws {
        let record = try #require(
            Self.record(
                "4,812,56141677,-;bfa 0000:00:06.0: Direct firmware load for cbfw-3.2.5.1.bin failed with error -2\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:06.0\n"
            ))
        #expect(record.device == "+pci:0000:00:06.0" && record.line.hasPrefix("[   56.141677] bfa 0000"))
        let missing = MissingFirmware.find(in: [record, record])
        #expect(missing == [MissingFirmware(name: "cbfw-3.2.5.1.bin", bus: "pci", device: "0000:00:06.0")])
        // A program's message, and damaged ones.
        for bad in ["12,1,5,-;text", "", ";", "4,1;x", "x,1,2,-;y"] { #expect(Self.record(bad) == nil) }
    }

    @Test(arguments: [
        ("x: firmware: failed to load cxgb4/t5fw.bin (-2)", "cxgb4/t5fw.bin"),
        ("x: Direct firmware load for a/b failed with error -2", "a/b"),
        ("x: Direct firmware load for a/b failed with error -12", nil),
        ("x: firmware: failed to load ../../etc/shadow (-2)", nil),
        ("x: firmware: failed to load /abs (-2)", nil), ("x: firmware: failed to load  (-2)", nil),
        ("firmware: failed to load (-2)", nil),
    ]) func namesFiles(_ message: String, _ expected: String?) {
        #expect(MissingFirmware.name(in: message) == expected)
    }
}

@Suite struct BitLockerKeyTests {
    private static let good = "523292-412159-301026-189893-078760-688523-577390-466257"

    @Test func takesAnyGrouping() throws {
        #expect(try BitLockerKey(parsing: Self.good).text == Self.good)
        #expect(try BitLockerKey(parsing: Self.good.filter { $0 != "-" }).text == Self.good)
        #expect(try BitLockerKey(parsing: " " + Self.good.replacing("-", with: " ")).text == Self.good)
    }

    @Test(arguments: [
        ("523292-412159-301026-189893-078760-688523-577390-466258", "Group 8"),
        ("523292-412158-301026-189893-078760-688523-577390-466257", "Group 2"),
        ("999999-412159-301026-189893-078760-688523-577390-466257", "Group 1"),
        ("523292", "these are 6"), ("my password", "digits only"), ("", "these are 0"),
        ("٥٢٣٢٩٢", "these are 0"),
    ]) func namesTheWrongGroup(_ typed: String, _ words: String) {
        let error = refusal { () throws(JobFailure) in try BitLockerKey(parsing: typed) }
        #expect(error?.message.contains(words) == true)
    }
}

@Suite struct MediumFactsTests {
    @Test func extrasHaveAnAddress() throws {
        #expect(MediumExtras.address(commandLine: "a reforge.extras=tftp://h/x b") == "tftp://h/x")
        #expect(MediumExtras.address(commandLine: "reforge.extras=file:///etc/passwd") == nil)
        #expect(MediumExtras.address(commandLine: "reforge.extras") == nil)
        // It is no setting: a machine with nothing else shows the menu.
        #expect(try RecoverySettings.parse(commandLine: "reforge.extras=tftp://h/x") == nil)
    }

    @Test func menuOffersBitLockerLast() {
        let volume = BlockVolume(node: "sda3", disk: "sda", type: "BitLocker", byteCount: 1 << 30)
        let text = Menu.text(images: [], disks: [], bitLocker: [volume], doneJob: "restore of A")
        #expect(text.contains("/dev/sda3") && text.contains(Menu.Choice.bitLocker.title))
        #expect(Menu.choice("10", hasDoneJob: true, hasBitLocker: true) == .bitLocker)
        #expect(Menu.choice("9", hasBitLocker: true) == .bitLocker && Menu.choice("bitlocker") == nil)
        #expect(!Menu.text(images: [], disks: []).contains("BitLocker"))
    }

    /// Hidden disks are in no list: the menu says why.
    @Test func hiddenDisksAreNamed() throws {
        let raid = DeviceDriver(
            modalias: "pci:v00008086d00002822sv00001028sd00000738bc01sc04i00", driver: "ahci", module: "ahci")
        var volumeManagement = raid
        (volumeManagement.driver, volumeManagement.module) = ("vmd", "vmd")
        let ahci = DeviceDriver(modalias: "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", driver: "ahci")
        let line = "4,500,1000,-;ahci 0000:00:17.0: Found 1 remapped NVMe devices.\n"
        let record = try #require(KernelLog.Record(Array(line.utf8)[...]))
        func warning(_ controllers: [DeviceDriver], _ log: [KernelLog.Record] = []) -> String? {
            HiddenDisks.warning(controllers: controllers, kernelLog: log)
        }
        #expect(warning([ahci, volumeManagement]) == nil && warning([]) == nil)
        #expect(warning([ahci, raid])?.contains("can hide") == true)
        let found = try #require(warning([ahci], [record]))
        #expect(found.contains("are hidden") && found.contains("AHCI"))
        #expect(Menu.text(images: [], disks: [], hiddenDisks: found).contains("There are no disks.\nwarning: \(found)"))
    }

    @Test func ntfsIsForReadingOnly() {
        #expect(OpenedVolume.manner(of: "ntfs", writable: false)?.type == "ntfs3")
        #expect(OpenedVolume.manner(of: "ntfs", writable: true) == nil)
        #expect(OpenedVolume.manner(of: "BitLocker", writable: false) == nil)
    }

    @Test(.enabled(if: ChildProcess.canFind("tar"), "needs tar")) func archivesAreTar() throws {
        let folder = try TemporaryFolder()
        let long = String(repeating: "n", count: 150)
        let files = [
            (name: "support/a.txt", bytes: Array("one\n".utf8)),
            (name: long, bytes: [UInt8](repeating: 7, count: 1000)),
        ]
        let archive = folder.path.appending("a.tar")
        try Files.write(try TarWriter.archive(files, modified: 1_700_000_000), to: archive)
        let output = try ChildProcess.run(["tar", "-tf", archive.string])
        #expect(output.text == "support/a.txt\n\(long)\n" && output.succeeded)
    }

    @Test func readsFirmwareState() throws {
        let folder = try TemporaryFolder()
        #expect(FirmwareState.current(folder.path.appending("none")) == .bios)
        #expect(FirmwareState.current(folder.path) == .uefi)
        try Files.makeFolders(folder.path.appending("efivars"))
        let variable = folder.path.appending("efivars").appending("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
        let cases: [([UInt8], FirmwareState)] = [
            ([6, 0, 0, 0, 1], .secureBoot), ([6, 0, 0, 0, 0], .uefi), ([1], .uefi),
        ]
        for (bytes, state) in cases {
            try Files.write(bytes, to: variable)
            #expect(FirmwareState.current(folder.path) == state)
        }
    }
}
