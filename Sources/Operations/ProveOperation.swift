// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Boots an image in a virtual machine without a network, and judges whether its system has started. The verdict is
/// signed, and stored with the snapshot or beside the image file.
package final class ProveOperation {
    private let job: ProveJob
    private let keys: KeyRing
    private let events: any EventSink
    private let toolVersion: String
    private var cancellation: Cancellation { keys.cancellation }

    /// A processor that is emulated takes several times as long.
    private static let timeout = (kvm: 300.0, emulated: 1200.0)
    /// The seconds after which a machine with KVM must have shown something: its firmware does so at once.
    private static let silence = 45.0

    /// - Parameter toolVersion: the version of the program, for the proof.
    package init(_ job: ProveJob, keys: KeyRing, events: any EventSink, toolVersion: String) {
        (self.job, self.keys, self.events, self.toolVersion) = (job, keys, events, toolVersion)
        keys.allowsBacking = job.allowsBacking
    }

    package func run() throws -> ProveReport {
        try events.reporting("prove", cancellation, outcome: { $0.outcome }) { try prove() }
    }

    private func prove() throws -> ProveReport {
        if let text = job.expectedText, text.allSatisfy(\.isWhitespace) || text.contains(where: \.isNewline) {
            throw JobFailure(.usage, "--expect takes a text of one line")
        }
        let folder = job.output.map { FilePath($0) }
        // Before the long work.
        if let folder { try Self.prepare(folder) }
        let image = try BootedImage(job.image, job.machine, keys)
        defer { image.end() }
        var trial = try self.trial(image)
        if image.choice.usesKVM, let why = trial.faultOfKVM, !cancellation.isRequested {
            image.emulate(because: why)
            trial = try self.trial(image)
        }
        // QEMU may have failed because it was interrupted.
        var failure: (any Error)? = cancellation.isRequested ? ImagingError.interrupted : trial.failure
        // What was read last may have been damaged too.
        do { try checkSource(image) } catch { failure = failure ?? error }
        let keeper = ProofKeeper(image, folder, toolVersion: toolVersion, keys)
        if let failure {
            keeper.keep(trial, failed: JobFailure(failure, cancellation: cancellation))
            throw failure
        }
        guard let verdict = trial.verdict else { throw JobFailure(.ioError, "the machine ended without a verdict") }
        var report = ProveReport(job, image, verdict, trial)
        report.stored = keeper.keep(trial, verdict, expecting: job.expectedText)
        return report
    }

    private static func prepare(_ folder: FilePath) throws {
        do throws(SystemCallError) {
            try Files.makeFolders(folder)
            try ProofFiles(in: folder).remove()
        } catch { throw JobFailure(.cannotCreate, "\(error): name another folder with --output") }
    }

    /// A system that started in spite of damage proves nothing about the rest of the image.
    private func checkSource(_ image: BootedImage) throws {
        if let damage = image.damage { throw damage }
        try image.source.checkHeldStill()
    }

    // MARK: One start of the machine

    private func trial(_ image: BootedImage) throws -> ProofTrial {
        let started = SystemFacts.utcText(SystemFacts.unixSeconds())
        let machine = try image.start { settings, _ in
            settings.isWatched = true
            settings.asksForSerialLogin = job.asksForSerialLogin
        }
        defer { machine.stop() }
        events.log(image.sentence)
        events.take(.phase("boot"))
        let usesKVM = image.choice.usesKVM
        let watch = BootWatch(
            machine,
            Self.limits(
                timeout: job.timeoutSeconds ?? (usesKVM ? Self.timeout.kvm : Self.timeout.emulated),
                isEmulated: !usesKVM), expecting: job.expectedText)
        var trial = ProofTrial(started: started)
        trial.qemuVersion = (try? machine.qemuVersion()) ?? "unknown"
        do { trial.verdict = try verdict(watch, image, machine) } catch {
            trial.failure = error
            if usesKVM { trial.faultOfKVM = Self.faultOfKVM(error) }
        }
        // What it showed is worth keeping in every case; a machine that hangs must not keep an interrupted command.
        if trial.faultOfKVM == nil {
            trial.screen = try? machine.picture(seconds: cancellation.isRequested ? 5 : 60)
        }
        (trial.seconds, trial.serialLog, trial.rows) = (watch.seconds, watch.serialLog, watch.rows)
        return trial
    }

    static func limits(timeout: Double, isEmulated: Bool) -> BootJudge.Limits {
        var limits = BootJudge.Limits(timeout: timeout)
        if isEmulated { (limits.settle, limits.hold, limits.alone, limits.quiet) = (20, 10, 90, 300) }
        return limits
    }

    /// Why a failure with KVM says nothing about the image; `nil` if it does.
    static func faultOfKVM(_ error: any Error) -> String? {
        guard let error = error as? EmulatorError, case .failed(_, let why) = error else { return nil }
        return why
    }

    private func verdict(_ watch: BootWatch, _ image: BootedImage, _ machine: RunningMachine) throws -> BootVerdict {
        while true {
            let step = try watch.step()
            try cancellation.check()
            if let damage = image.damage { throw damage }
            // Not only after an event: an NVMe disk of QEMU reports a failed write to its guest alone.
            try image.checkWrites(machine, step.events)
            if image.choice.usesKVM, step.verdict == .notProven(.stopped) {
                throw EmulatorError.failed(program: QemuProgram.system.rawValue, why: "KVM stopped the machine")
            }
            if let verdict = step.verdict { return verdict }
            if image.choice.usesKVM, watch.isSilent, watch.seconds > Self.silence {
                throw EmulatorError.failed(
                    program: QemuProgram.system.rawValue,
                    why: "not even the firmware has shown anything in \(Int(Self.silence)) s")
            }
        }
    }
}
