// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// The session from its first line to the end of the machine.
final class Session {
    private let console: SessionConsole
    private let machine: MachineView
    private let runner: JobRunner
    private let log = SavedLog()

    init(console: SessionConsole) {
        self.console = console
        machine = MachineView { console.say($0) }
        runner = JobRunner(machine: machine, console: console)
    }

    func run() -> Int32 {
        greet()
        MountedVolume.unmountLeftovers(below: RecoveryPaths.volumes)
        console.say("Loading drivers ...")
        machine.loadModules()
        var end: MachineEnd?
        var doneJob: MenuSession.DoneJob?
        do {
            let (settings, file) = try prepare()
            if let settings, let job = settings.job, !jobWasBegun() {
                doneJob = self.doneJob(job, settings, file)
                if doneJob == nil { end = run(job, settings, file) }
            }
            if settings?.finish == .shell, settings?.job == nil { console.openShell(on: nil) }
        } catch {
            report(error)
        }
        end =
            end
            ?? MenuSession(console: console, machine: machine, runner: runner, log: log, doneJob: doneJob).run()
        guard let end else { return ExitStatus.interrupted.rawValue }
        log.saveQuietly(on: machine.medium, console)
        do { try Files.write(Array(end.rawValue.utf8), to: RecoveryPaths.finish) } catch {
            console.say("error: \(error)")
            return ExitStatus.cannotCreate.rawValue
        }
        return ExitStatus.done.rawValue
    }

    private func greet() {
        let build = Medium.ownBuildID()?.prefix(12) ?? "unknown"
        let kernel = Files.text("/proc/sys/kernel/osrelease") ?? "?"
        let firmware = FirmwareState.current()
        console.say("\nReforge recovery environment, build \(build), Linux \(kernel), \(firmware.rawValue)")
        if firmware == .secureBoot {
            console.say("The kernel is locked down: it loads signed modules only.")
        }
    }

    /// Waits for disks, finds and grows the medium, and reads the settings.
    /// - Returns: the settings, and the bytes of the medium's settings file if they come from it.
    private func prepare() throws(JobFailure) -> (RecoverySettings?, file: [UInt8]?) {
        var settings: RecoverySettings?
        var problem: JobFailure?
        do { settings = try RecoverySettings.parse(commandLine: Files.text("/proc/cmdline") ?? "") } catch {
            problem = error
        }

        waitForDisks(settings, isAwaitingMedium: settings == nil && problem == nil)
        var volumes = machine.volumes()
        machine.lookForMedium(in: volumes)
        if let message = StickGrowth.grow(machine.medium, among: volumes) {
            console.say(message)
            volumes = machine.volumes()
            machine.lookForMedium(in: volumes)
        }
        if let volume = machine.medium.volume { console.say("The medium is \(volume.line)") }
        if let message = machine.medium.problem { console.say("warning: \(message)") }

        machine.supplyFirmware()
        if let warning = machine.hiddenDisks { console.say("warning: \(warning)") }
        // The command line takes precedence as a whole: a mixture of both would not be intended.
        if let problem { throw problem }
        if settings != nil { return (settings, nil) }
        guard let bytes = machine.medium.settingsFileBytes() else { return (nil, nil) }
        settings = try RecoverySettings.parse(json: bytes, name: "\(Medium.settingsFile) of the medium")
        if case .restore(var restore)? = settings?.job {
            restore.hooks = try machine.medium.copiedHooks()
            if !restore.hooks.isEmpty {
                console.say("The medium has hooks for the restored system: \(restore.hooks.count)")
            }
            settings?.job = .restore(restore)
        }
        return (settings, bytes)
    }

    private func waitForDisks(_ settings: RecoverySettings?, isAwaitingMedium: Bool) {
        if isAwaitingMedium {
            // Without settings on the command line they may be on the medium, and a stick appears slowly. A machine
            // booted from the network has no medium, and waits this long in vain.
            machine.waitForDevices(SettleRule(limit: 10)) {
                self.machine.lookForMedium()
                return self.machine.medium.volume != nil
            }
        } else {
            machine.waitForDevices(SettleRule(quiet: settings?.job?.mayFitLateDisks == true ? 3 : 1))
        }
    }

    // MARK: The unattended job

    /// Whether this boot has already started its unattended job: a session after a crashed one must not repeat it.
    private func jobWasBegun() -> Bool {
        guard Files.exists(RecoveryPaths.jobMarker) else { return false }
        console.say("The unattended job of this boot was already started, and is not repeated.")
        return true
    }

    /// The data of a job done at an earlier start; `nil` if it must run now.
    private func doneJob(
        _ job: RecoverySettings.Job, _ settings: RecoverySettings, _ file: [UInt8]?
    ) -> MenuSession.DoneJob? {
        guard !settings.repeats else { return nil }
        if let file, let mark = markOnMedium(file) {
            console.say(
                "The job of \(Medium.settingsFile) was done before, and is not repeated (\"repeat\": true repeats it; "
                    + "\(JobMark.fileName) is its mark).")
            return .init(mark: mark, settings: settings, job: job)
        }
        guard case .restore(let restore) = job, let note = runner.note(of: restore) else { return nil }
        let mark = "\(job.description), job id \(note.jobID): ended \(SystemFacts.utcText(note.unixSeconds))"
        console.say(
            "The job with the id \(note.jobID) was done before on this disk, and is not repeated (another id, or repeat, does it "
                + "again).")
        return .init(mark: mark.printable, settings: settings, job: job)
    }

    /// The mark of a done job on the REFORGE volume; `nil` if the job must run.
    private func markOnMedium(_ file: [UInt8]) -> String? {
        switch JobMark.find(on: machine.medium, settings: file) {
        case .none: nil
        case .done(let found): found.line
        case .unreadable: "its mark, \(JobMark.fileName), cannot be read"
        }
    }

    /// Records the job as done, for the next start. Returns the error, as a sentence.
    private func noteDone(
        _ job: RecoverySettings.Job, _ settings: RecoverySettings, _ file: [UInt8]?, _ outcome: JobOutcome
    ) -> String? {
        guard !settings.repeats, outcome.isDataComplete else { return nil }
        if let file { return JobMark(settings: file, job: job, outcome: outcome).save(on: machine.medium) }
        // `reforge restore` has written the note, if there was space.
        return outcome.lacksNote ? "the disk has no space for the note before its first partition" : nil
    }

    /// - Returns: how the machine ends; `nil` if it stays on.
    private func run(
        _ job: RecoverySettings.Job, _ settings: RecoverySettings, _ file: [UInt8]?
    ) -> MachineEnd? {
        JobMarker.set(JobMarker.running)
        var outcome: JobOutcome
        do { outcome = try runner.run(job, settings) } catch {
            report(error)
            return nil
        }
        JobMarker.set(JobMarker.ended)
        var finish = settings.finish
        if let problem = noteDone(job, settings, file, outcome) {
            console.say("warning: the job could not be recorded as done: \(problem)")
            if finish == .reboot {
                finish = nil
                outcome.text +=
                    " The machine stays on: the job could not be recorded as done, and a restart would repeat it. "
                    + (file == nil
                        ? "Take it off the network's list before the next start."
                        : "Remove the medium before the next start.")
            }
        }
        console.say(ResultLine.text(outcome.status))
        let end: MachineEnd? =
            switch (outcome.status, finish) {
            case (ExitStatus.done.rawValue, .reboot): .reboot
            case (ExitStatus.done.rawValue, .poweroff): .poweroff
            default: nil
            }
        if end == nil { log.saveQuietly(on: machine.medium, console) }
        let opensShell = outcome.status == ExitStatus.done.rawValue && finish == .shell
        console.present(outcome, waits: end == nil && !opensShell)
        if opensShell { console.openShell(on: nil) }
        if end == nil { console.waitForEnter() }
        return end
    }

    /// Reports the failure of an unattended run. The machine stays on: otherwise it would fail in an endless loop, and
    /// the reason would scroll away.
    private func report(_ error: JobFailure) {
        console.say("error: \(error.message)")
        JobMarker.set(JobMarker.ended)
        console.say(ResultLine.text(error.status.rawValue))
        log.saveQuietly(on: machine.medium, console)
        console.present(JobOutcome(error), waits: true)
        console.waitForEnter()
    }
}

extension RecoverySettings.Job {
    /// A description for the user.
    var description: String {
        switch self {
        case .restore(let restore): "restore of \(restore.image)"
        case .capture(_, let location): "capture to \(location)"
        }
    }
    /// Whether a disk that appears late could change the choice.
    var mayFitLateDisks: Bool {
        switch self {
        case .restore(let restore): restore.target.isOpen
        case .capture(let disk, _): disk.isOpen
        }
    }
}

extension SavedLog {
    /// Saves the log so far; a failure only causes a warning.
    func saveQuietly(on medium: Medium, _ console: SessionConsole) {
        if let problem = save(on: medium) { console.say("warning: \(problem)") }
    }
}
