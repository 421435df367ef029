// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// What support.tar.zst holds of the doctor.
struct KeptFindingsTests {
    private static let json = """
        {"alreadyRight":[],"findings":[{"code":"kernel-missing","fix":{"reason":"install one"},"sentence":"there is no \
        kernel","severity":"stops","stage":"kernel"}],"firmware":"uefi","schema":1,"stops":true,"subject":"/dev/sda"}
        """

    @Test func findingsAreKeptWithTheirOutcome() throws {
        let folder = try Files.makeTemporaryFolder("reforge-findings")
        defer { _ = try? ChildProcess.run(["rm", "-rf", folder.string]) }
        // Made when it is needed.
        let inner = folder.appending("findings")
        let report = try DoctorReport(json: Array(Self.json.utf8))
        let kept = KeptFindings(report, disk: "/dev/sda", in: inner)
        #expect(Files.names(in: inner).sorted() == ["doctor-sda.json", "doctor-sda.txt"])
        #expect(try DoctorReport(json: Files.read(inner.appending("doctor-sda.json"), limit: 1 << 20)) == report)
        kept.add(BootRepairOutcome(changed: ["done: x"], pending: "there is no kernel"))
        let text = Files.text(inner.appending("doctor-sda.txt")) ?? ""
        #expect(text.contains("stops (kernel-missing): there is no kernel\n"), "\(text)")
        #expect(text.contains("  changed: done: x\n") && text.contains("  not finished: there is no kernel"), "\(text)")
    }

    @Test func nothingIsKeptOutsideTheMedium() throws {
        let report = try DoctorReport(json: Array(Self.json.utf8))
        let before = Files.names(in: KeptFindings.folder)
        KeptFindings(report, disk: "/dev/none").add(BootRepairOutcome())
        #expect(Files.names(in: KeptFindings.folder) == before)
    }

    @Test func namesAreParts() {
        #expect(KeptFindings.plainName("/dev/nvme0n1") == "nvme0n1")
        #expect(KeptFindings.plainName("/tmp/a b\u{1B}[x") == "a-b--x")
        #expect(KeptFindings.plainName("/") == "disk")
    }
}
