// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import BootRepair
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// `--for`: the doctor's fixes for a hypervisor's controllers, made in the appliance on the unfinished file.
extension ExportOperation {
    /// What the disk is judged by.
    func question(
        _ hypervisor: Hypervisor, _ found: MachineStart.Firmware, _ manifest: Manifest, _ format: ExportFormat
    ) throws -> DoctorQuestion {
        let firmware = Hypervisor.firmware(found, manifest)
        try hypervisor.refuse(format, firmware)
        // Before the disk is copied: a missing file must not take long to see.
        _ = try OpenedAppliance.keyBytes(job.luksKeyFiles)
        return DoctorQuestion(
            subject: job.output, machine: hypervisor.machine(firmware: firmware), firmware: firmware,
            capturedDiskName: manifest.disk.kernelName)
    }

    /// Why the disk is not looked at, and what helps; `nil` if it is.
    static func obstacle(_ manifest: Manifest) -> (why: String, help: String)? {
        let architecture = manifest.machine.architecture
        guard ["x86_64", "unknown", ""].contains(architecture) else {
            return (
                "its system is for the processor \(architecture), and the appliance is an x86_64 machine",
                "repair it on a machine with that processor (`reforge boot-repair`)"
            )
        }
        guard !SystemFacts.isRecoveryEnvironment else {
            return ("the recovery medium starts no virtual machines", "export on another machine")
        }
        return nil
    }

    /// Adapts the finished disk in its unfinished file. Nothing of the host's kernel mounts it.
    /// - Throws: if the machine ended while it may have changed the file, which must not be published then.
    func adapt(
        _ question: DoctorQuestion, _ target: ExportTarget, _ output: ToolOutput, _ manifest: Manifest, sectorSize: Int,
        _ report: inout ExportReport
    ) throws {
        if let obstacle = Self.obstacle(manifest) {
            return leave(&report, question, because: obstacle.why, help: obstacle.help)
        }
        let keyBytes = try OpenedAppliance.keyBytes(job.luksKeyFiles)
        let session: ApplianceSession
        do throws(ApplianceError) {
            session = try started(
                WritableDisk(nodes: target.format.writableNodes(output.path), logicalSectorSize: sectorSize),
                hasKeys: !keyBytes.isEmpty)
        } catch {
            guard !error.isCancellation else { throw error }
            return leave(&report, question, because: "\(error)", help: Self.help)
        }
        defer { session.close() }
        events.take(.phase("adapting the system"))
        defer { events.take(.phase("")) }
        let answer: RepairAnswer
        do throws(ApplianceError) {
            if !keyBytes.isEmpty { try session.unlock(keyBytes) }
            answer = try session.repair(question) { events.log($0) }
        } catch {
            switch error {
            // The agent's word that nothing was changed.
            case .failed(let why), .refused(let why), .notFound(let why):
                try closed(session, target)
                return leave(&report, question, because: why, help: Self.help)
            default: throw unfinished("\(error)", error, target)
            }
        }
        try closed(session, target)
        if let failure = answer.failure { throw unfinished(failure, nil, target) }
        take(answer, &report)
        list(answer.findings + closedSystem(answer.after ?? answer.before, question, manifest), &report)
    }

    private static var help: String {
        "export again once this is put right, or start the machine from the Reforge medium and run `reforge boot-repair "
            + "DISK` there"
    }

    private func started(_ disk: WritableDisk, hasKeys: Bool) throws(ApplianceError) -> ApplianceSession {
        let media = try ApplianceMedia.find(job.media)
        var options = ApplianceSession.Options()
        options.allowsKVM = job.allowsKVM
        options.memoryMiB = hasKeys ? ApplianceSession.memoryForLUKS : ApplianceSession.memoryForRepair
        events.take(.phase("starting the appliance"))
        defer { events.take(.phase("")) }
        return try ApplianceSession(
            repairing: disk, media: media, options: options, cancellation: cancellation,
            say: { events.warn("no-kvm", $0) })
    }

    private func closed(_ session: ApplianceSession, _ target: ExportTarget) throws {
        do throws(ApplianceError) { try session.finish() } catch { throw unfinished("\(error)", error, target) }
    }

    /// The failure of an adaptation that may have changed a part of the disk.
    private func unfinished(_ why: String, _ error: ApplianceError?, _ target: ExportTarget) -> JobFailure {
        let failure = error.map { JobFailure($0, cancellation: cancellation) }
        if failure?.status == .interrupted, let failure { return failure }
        // The machine got only an error.
        let isFull = (Files.freeByteCount(target.folder) ?? .max) < Self.leastRoom
        return JobFailure(
            failure?.status ?? .ioError,
            "the disk was not completely adapted: \(why)"
                + (isFull ? " (No space left on device)" : "") + ". Without --for, it is exported as captured")
    }

    /// Less free space than this is the likely reason of a failed write, in bytes.
    private static let leastRoom: UInt64 = 16 << 20

    /// Judges the source instead of a finished disk, for a dry run: nothing is written.
    func foresee(_ question: DoctorQuestion, _ manifest: Manifest, _ report: inout ExportReport) throws {
        if let obstacle = Self.obstacle(manifest) {
            return leave(&report, question, because: obstacle.why, help: obstacle.help)
        }
        var choice = ApplianceChoice()
        (choice.media, choice.allowsKVM, choice.luksKeyFiles) = (job.media, job.allowsKVM, job.luksKeyFiles)
        let found: DoctorReport
        do {
            let started = try OpenedAppliance.start(job.image, choice, keys, events)
            defer { started.session.close() }
            events.take(.phase("judging how it starts"))
            defer { events.take(.phase("")) }
            found = try started.session.diagnose(question)
            if let why = started.imageError { throw JobFailure(.badImage, "parts of it cannot be read: \(why)") }
        } catch {
            let failure = JobFailure(error, cancellation: cancellation)
            guard failure.status != .interrupted, failure.status != .usage else { throw failure }
            return leave(&report, question, because: failure.message, help: Self.help)
        }
        list(found.findings + closedSystem(found, question, manifest), &report)
    }

    private func take(_ answer: RepairAnswer, _ report: inout ExportReport) {
        report.changed = answer.changed
        for change in answer.changed { events.log(change) }
        for warning in answer.warnings { events.warn("adaptation", warning) }
        report.warnings += answer.warnings
        if let pending = answer.pending { report.incomplete.append("boot repair: \(pending)") }
    }

    private func leave(
        _ report: inout ExportReport, _ question: DoctorQuestion, because why: String, help: String
    ) {
        list([notAdapted(question, because: why, help: help)], &report)
    }

    private func notAdapted(_ question: DoctorQuestion, because why: String, help: String) -> Finding {
        Finding(
            .notAdapted, "\(job.output) was not adapted to a \(question.machine?.name ?? "machine"): \(why)",
            fix: .none(help))
    }

    /// A system that was not found because it is encrypted may need everything.
    private func closedSystem(_ found: DoctorReport, _ question: DoctorQuestion, _ manifest: Manifest) -> [Finding] {
        guard found.system == nil else { return [] }
        let kinds = manifest.regions.compactMap(\.filesystem)
        if kinds.contains(where: { $0.kind == .luks }) {
            return [
                notAdapted(
                    question, because: "no system was found, and a volume is encrypted (LUKS)",
                    help: "give its key with --luks-key-file")
            ]
        }
        guard kinds.contains(where: { $0.kindName == "BitLocker" }) else { return [] }
        return [
            notAdapted(
                question, because: "no system was found, and a volume is encrypted (BitLocker)",
                help: "decrypt the volume in Windows (manage-bde -off), and capture it again")
        ]
    }

    private func list(_ findings: [Finding], _ report: inout ExportReport) {
        for finding in findings where finding.severity != .note {
            events.warn(finding.code, finding.lines.joined(separator: "; "))
        }
        report.findings = findings
    }
}

extension ApplianceError {
    fileprivate var isCancellation: Bool {
        switch self {
        case .cancelled, .emulator(.cancelled): true
        default: false
        }
    }
}
