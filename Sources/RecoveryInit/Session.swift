// SPDX-License-Identifier: GPL-3.0-or-later
internal import LinuxSystem
internal import SystemPackage

/// The session from its first line to the end of the machine.
final class Session {
    private let console: SessionConsole
    private let growTable: TableGrower
    private let machine: MachineView
    private let runner: JobRunner
    private let log = SavedLog()

    init(console: SessionConsole, growTable: @escaping TableGrower) {
        self.console = console
        self.growTable = growTable
        machine = MachineView { console.say($0) }
        runner = JobRunner(machine: machine, console: console)
    }

    func run() -> Int32 {
        greet()
        MountedVolume.unmountLeftovers()
        console.say("Loading drivers ...")
        machine.loadModules()
        var end: MachineEnd?
        do {
            let settings = try prepare()
            if let settings, settings.job != nil, !jobWasBegun() { end = runJob(settings) }
            if settings?.finish == .shell, settings?.job == nil { console.openShell(on: nil) }
        } catch {
            report(error)
        }
        end = end ?? MenuSession(console: console, machine: machine, runner: runner, log: log).run()
        guard let end else { return ExitStatus.interrupted }
        log.saveQuietly(on: machine.medium, console)
        do { try Files.write(Array(end.rawValue.utf8), to: RecoveryPaths.finish) } catch {
            console.say("error: \(error)")
            return ExitStatus.cannotCreate
        }
        return ExitStatus.done
    }

    private func greet() {
        let build = Medium.ownBuildID()?.prefix(12) ?? "unknown"
        let kernel = Files.text("/proc/sys/kernel/osrelease") ?? "?"
        let firmware = Files.exists("/sys/firmware/efi") ? "UEFI" : "BIOS"
        console.say("\nReforge recovery environment, build \(build), Linux \(kernel), \(firmware)")
    }

    /// Waits for disks, finds and grows the medium, and reads the settings.
    private func prepare() throws(RecoveryError) -> RecoverySettings? {
        var settings: RecoverySettings?
        var problem: RecoveryError?
        do { settings = try RecoverySettings.parse(commandLine: Files.text("/proc/cmdline") ?? "") } catch {
            problem = error
        }

        waitForDisks(settings, isAwaitingMedium: settings == nil && problem == nil)
        var volumes = machine.volumes()
        machine.lookForMedium(in: volumes)
        if let message = StickGrowth(growTable: growTable).grow(machine.medium, among: volumes) {
            console.say(message)
            volumes = machine.volumes()
            machine.lookForMedium(in: volumes)
        }
        if let volume = machine.medium.volume { console.say("The medium is \(volume.line)") }
        if let message = machine.medium.problem { console.say("warning: \(message)") }

        // The command line wins as a whole: half of one and half of the other would be nobody's intention.
        if let problem { throw problem }
        if settings != nil { return settings }
        guard let bytes = machine.medium.settingsFileBytes() else { return nil }
        return try RecoverySettings.parse(json: bytes, name: "\(Medium.settingsFile) of the medium")
    }

    private func waitForDisks(_ settings: RecoverySettings?, isAwaitingMedium: Bool) {
        if isAwaitingMedium {
            // Without settings on the command line they may be on the medium, and a stick is slow to appear. A machine
            // that was booted from the network has none, and waits this long for nothing.
            machine.waitForDevices(SettleRule(limit: 10)) {
                self.machine.lookForMedium()
                return self.machine.medium.volume != nil
            }
        } else {
            machine.waitForDevices(SettleRule(quiet: settings?.job?.mayFitLateDisks == true ? 3 : 1))
        }
    }

    // MARK: The unattended job

    /// Whether this boot has had its unattended job: a session that takes over from a crashed one does not repeat it.
    private func jobWasBegun() -> Bool {
        guard Files.exists(RecoveryPaths.jobMarker) else { return false }
        console.say("The unattended job of this boot was begun before, and is not repeated.")
        return true
    }

    /// - Returns: how the machine ends; `nil` where it stays on.
    private func runJob(_ settings: RecoverySettings) -> MachineEnd? {
        guard let job = settings.job else { return nil }
        JobMarker.set(JobMarker.running)
        let status: Int32
        do {
            status =
                switch job {
                case .restore(let restore): try runner.restore(restore, key: settings.key, luksKey: settings.luksKey)
                case .capture(let disk, let location):
                    try runner.capture(disk, to: location, key: settings.key, luksKey: settings.luksKey)
                }
        } catch {
            report(error)
            return nil
        }
        JobMarker.set(JobMarker.ended)
        console.say(ResultLine.text(status))
        guard status == ExitStatus.done else {
            stayOn()
            return nil
        }
        switch settings.finish {
        case .reboot: return .reboot
        case .poweroff: return .poweroff
        case .shell:
            log.saveQuietly(on: machine.medium, console)
            console.openShell(on: nil)
            return nil
        case nil:
            log.saveQuietly(on: machine.medium, console)
            return nil
        }
    }

    /// Says why an unattended run came to nothing.
    private func report(_ error: RecoveryError) {
        console.say("error: \(error.message)")
        JobMarker.set(JobMarker.ended)
        console.say(ResultLine.text(error.status))
        stayOn()
    }

    /// A failure never restarts or switches off by itself: it would do so for ever, and nobody would see why.
    private func stayOn() {
        console.say("The machine stays on. The menu below is on every console; \"shell\" opens a rescue shell.")
        log.saveQuietly(on: machine.medium, console)
    }
}

extension RecoverySettings.Job {
    /// Whether a disk that appears late could change which one is meant.
    var mayFitLateDisks: Bool {
        switch self {
        case .restore(let restore): restore.target.isOpen
        case .capture(let disk, _): disk.isOpen
        }
    }
}

extension SavedLog {
    /// Saves what was said so far; a failure is worth a line, no more.
    func saveQuietly(on medium: Medium, _ console: SessionConsole) {
        if let problem = save(on: medium) { console.say("warning: \(problem)") }
    }
}
