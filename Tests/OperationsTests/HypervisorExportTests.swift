// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// `export --for`: formats, and what becomes of a disk that cannot be adapted.
@Suite struct HypervisorExportTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }

    /// A disk of 24 MiB with a GPT.
    private func makeDisk() throws {
        let disk = scratch.path.appending("disk.raw")
        var bytes = [UInt8](repeating: 0, count: 24 << 20)
        for index in 2 << 20..<3 << 20 { bytes[index] = UInt8(truncatingIfNeeded: index &* 31) }
        try Files.write(bytes, to: disk)
        let made = try ChildProcess.run(
            ["sfdisk", "-q", disk.string], input: Array("label: gpt\nstart=2048, size=32768\n".utf8))
        try #require(made.succeeded, "\(made.lastWords)")
    }

    private func export(_ output: String, _ change: (inout ExportJob) -> Void) throws -> ExportReport {
        var job = ExportJob(image: path("disk.raw"), output: path(output))
        // No medium is there: nothing is started.
        job.media = path("nowhere")
        change(&job)
        let keys = KeyRing(FixedPassword(bytes: nil), events, Cancellation())
        return try ExportOperation(job, keys: keys, events: events).run()
    }

    private func status(_ output: String, _ change: (inout ExportJob) -> Void) -> JobModel.ExitStatus {
        do { return try export(output, change).outcome.status } catch {
            return JobFailure(error, cancellation: Cancellation()).status
        }
    }

    @Test(arguments: [
        ("vmware", "a.vmdk", ExportFormat.vmdk), ("vmware", "a", .vmdk), ("hyperv", "a", .vhdx),
        ("hyperv", "a.vhd", .vhd), ("kvm", "a.disk", .qcow2), ("kvm", "a.img", .raw), ("virtualbox", "a", .vdi),
        ("virtualbox", "a.vmdk", .vmdk),
    ]) func theFormatFollowsTheHypervisor(name: String, output: String, format: ExportFormat) throws {
        let hypervisor = try #require(try Hypervisor.chosen(name))
        #expect(try ExportFormat.chosen(nil, for: FilePath(output), hypervisor) == format)
        #expect(try ExportFormat.chosen(format.rawValue, for: FilePath("b.iso"), hypervisor) == format)
    }

    @Test func otherFormatsContradictIt() throws {
        for (hypervisor, format) in [
            (Hypervisor.vmware, "qcow2"), (.vmware, "vdi"), (.hyperv, "vmdk"), (.kvm, "vhdx"), (.virtualbox, "qcow2"),
        ] {
            for (name, output) in [(format, "a"), (nil, "a.\(format)")] {
                let error = #expect(throws: JobFailure.self) {
                    try ExportFormat.chosen(name, for: FilePath(output), hypervisor)
                }
                #expect(error?.status == .usage && error?.message.contains(hypervisor.name) == true)
            }
        }
        // Images of Reforge's own are no disks.
        #expect(throws: JobFailure.self) { try ExportFormat.chosen(nil, for: "a.img.zst", .kvm) }
        #expect(throws: JobFailure.self) { try Hypervisor.chosen("xen") }
        #expect(try Hypervisor.chosen(nil) == nil)
        #expect(throws: JobFailure.self) { try Hypervisor.hyperv.refuse(.vhd, .uefi) }
        try Hypervisor.hyperv.refuse(.vhd, .bios)
        try Hypervisor.hyperv.refuse(.vhdx, .uefi)
    }

    @Test func wrongOptionsAreSeenBeforeAnythingIsOpened() {
        #expect(status("a.qcow2") { ($0.hypervisor, $0.image) = ("vmware", path("none")) } == .usage)
        #expect(status("a.qcow2") { ($0.hypervisor, $0.image) = ("xen", path("none")) } == .usage)
        #expect(status("a.qcow2") { $0.image = path("none") } == .usage, "--media without --for")
        var job = ExportJob(image: "a", output: "b.qcow2")
        (job.hypervisor, job.luksKeyFiles, job.allowsKVM) = ("kvm", ["k"], false)
        #expect(job.contradiction == nil && !job.isRestored)
        job.hypervisor = nil
        #expect(job.contradiction != nil)
    }

    /// The bytes are those of the disk, and the finding says what helps.
    @Test(arguments: [false, true]) func withoutAMediumTheDiskIsAsCaptured(isRestored: Bool) throws {
        try makeDisk()
        let report = try export("out.vmdk") {
            $0.hypervisor = "vmware"
            if isRestored { $0.layout = "keep" }
        }
        #expect(report.findings.map(\.code) == ["not-adapted"] && report.outcome.status == .incomplete)
        #expect(report.machine == "VMware machine" && report.changed.isEmpty && report.format == "vmdk")
        let finding = try #require(report.findings.first)
        #expect(finding.sentence.contains("vmlinuz") && finding.fix != .none(""))
        let told = events.all.contains {
            if case .notice(let notice) = $0 {
                notice.code == "not-adapted" && notice.severity == .warning
            } else {
                false
            }
        }
        #expect(told)
        if !isRestored {
            let compared = try ChildProcess.run(
                ["qemu-img", "compare", "-U", "-f", "vmdk", "-F", "raw", path("out.vmdk"), path("disk.raw")])
            #expect(compared.succeeded, "\(compared.lastWords)")
        }
        let text = try Files.read(scratch.path.appending("out.vmdk"), limit: 64 << 20)
        let word = Array("adapterType = \"lsilogic\"".utf8)
        let head = text.prefix(64 << 10)
        #expect(head.indices.contains { head[$0...].starts(with: word) }, "ESXi imports no IDE disks")
    }

    @Test func aDryRunWritesNothing() throws {
        try makeDisk()
        let before = Files.names(in: scratch.path).sorted()
        let report = try export("out") { ($0.hypervisor, $0.isDryRun) = ("kvm", true) }
        #expect(report.dryRun && report.format == "qcow2" && report.findings.map(\.code) == ["not-adapted"])
        #expect(report.outcome.status == .incomplete && report.byteCount == 24 << 20)
        let plain = try export("out.vdi") { ($0.media, $0.isDryRun) = (nil, true) }
        #expect(plain.dryRun && plain.findings.isEmpty && plain.outcome.status == .done)
        #expect(Files.names(in: scratch.path).sorted() == before)
    }

    /// A machine that breaks down while it may have written leaves no file.
    @Test func aMediumThatDoesNotStartLeavesTheDiskAsCaptured() throws {
        guard ChildProcess.canFind("qemu-system-x86_64") else { return }
        try makeDisk()
        try Files.makeFolders(scratch.path.appending("medium"))
        for name in ["vmlinuz", "initramfs.img"] {
            try Files.write([1, 2, 3], to: scratch.path.appending("medium").appending(name))
        }
        let report = try export("out.vdi") {
            ($0.hypervisor, $0.media, $0.allowsKVM) = ("virtualbox", path("medium"), false)
        }
        #expect(report.findings.map(\.code) == ["not-adapted"] && report.outcome.status == .incomplete)
    }

    @Test func theOutcomeFollowsTheFindings() throws {
        try makeDisk()
        var report = try export("out.vdi") { ($0.media, $0.isDryRun) = (nil, true) }
        func outcome(_ code: String, _ severity: Finding.Severity, _ fix: Finding.Fix) throws -> JobModel.ExitStatus {
            report.findings = [Finding(try #require(FindingCode.named(code)), "", severity: severity, fix: fix)]
            return report.outcome.status
        }
        #expect(try outcome("driver-missing", .mayStop, .steps(["x"])) == .done, "the export repairs it")
        report.dryRun = false
        #expect(try outcome("driver-missing", .mayStop, .steps(["x"])) == .incomplete, "the repair did not hold")
        #expect(try outcome("windows-driver-missing", .mayStop, .none("x")) == .incomplete)
        #expect(try outcome("fstab-elsewhere", .mayStop, .none("x")) == .done, "it was so before")
        #expect(try outcome("kernel-missing", .stops, .none("x")) == .incomplete)
        #expect(try outcome("system-missing", .note, .none("x")) == .done)
    }
}
