// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// The line that tells scripts and tests the end of an unattended job.
enum ResultLine {
    static func text(_ status: Int32) -> String { "REFORGE-RESULT exit=\(status)" }
}

/// The states of this boot's unattended job in the job marker.
enum JobMarker {
    static let running = "running"
    static let ended = "ended"

    static func set(_ text: String) { try? Files.write(Array(text.utf8), to: RecoveryPaths.jobMarker) }
}

/// Runs restores and captures by commands of this program, and shows their messages.
struct JobRunner {
    let machine: MachineView
    let console: SessionConsole
    var say: (String) -> Void { { console.say($0) } }

    init(machine: MachineView, console: SessionConsole) {
        self.machine = machine
        self.console = console
    }

    /// Brings up the network at the user's request.
    func bringUpNetwork() throws(JobFailure) { try machine.bringUpNetwork() }

    /// Runs the job of the settings.
    func run(_ job: RecoverySettings.Job, _ settings: RecoverySettings) throws(JobFailure) -> JobOutcome {
        switch job {
        case .restore(let restore): try self.restore(restore, key: settings.key, luksKey: settings.luksKey)
        case .capture(let disk, let location):
            try capture(disk, to: location, key: settings.key, luksKey: settings.luksKey)
        }
    }

    /// Runs a restore.
    /// - Parameters:
    ///   - key: location of the password, if needed.
    ///   - luksKey: location of the key of LUKS volumes whose contents grow with them.
    ///   - confirmed: whether it may write; otherwise it shows its plan.
    /// - Returns: the result of `reforge restore`, or the reason it did not start.
    func restore(
        _ job: RecoverySettings.Restore, key: ImageAddress? = nil, luksKey: ImageAddress? = nil, confirmed: Bool = true
    ) throws(JobFailure) -> JobOutcome {
        let password = try key.map { key throws(JobFailure) in try PasswordFile(key, machine, say) }
        let luks = try luksKey.map { key throws(JobFailure) in try PasswordFile(key, as: "luks-key", machine, say) }
        // The files are removed with their owners, which must outlive the command.
        defer { withExtendedLifetime((password, luks)) {} }
        return try restore(job, password: password?.path, luksKey: luks?.path, confirmed: confirmed)
    }

    /// Runs a restore with the password in a file.
    func restore(
        _ job: RecoverySettings.Restore, password: FilePath?, luksKey: FilePath? = nil, confirmed: Bool = true
    ) throws(JobFailure) -> JobOutcome {
        try RestoreJob(
            runner: self, settings: job, password: password, luksKey: luksKey, confirmed: confirmed
        ).run()
    }

    /// The note on the disk from a restore with the same job id.
    func note(of job: RecoverySettings.Restore) -> RestoreNote? {
        RestoreJob(runner: self, settings: job, password: nil, luksKey: nil, confirmed: false).note()
    }

    /// Lists the snapshots of a repository.
    /// - Returns: the exit status of `reforge snapshots`.
    func listSnapshots(_ repository: ImageAddress, password: FilePath?) throws(JobFailure) -> Int32 {
        guard case .volume(let name, let path) = repository else {
            throw JobFailure(.usage, "\(repository) is no repository on a volume.")
        }
        let mounted = try OpenedVolume(try machine.waitForVolume(name))
        let folder = try mounted.resolve(String(path.dropLast()))
        return Self.status(
            run(
                [RecoveryPaths.program, "snapshots", folder.string]
                    + (password.map { ["--password-file", $0.string] } ?? [])))
    }

    /// Whether a repository needs a password.
    func isEncrypted(_ repository: ImageAddress) throws(JobFailure) -> Bool {
        guard case .volume(let name, let path) = repository else { return false }
        let mounted = try OpenedVolume(try machine.waitForVolume(name))
        let folder = try mounted.resolve(String(path.dropLast()))
        return Files.exists(folder.appending("keys")) && !Files.names(in: folder.appending("keys")).isEmpty
    }

    /// A capture.
    /// - Parameters:
    ///   - key: location of the password of an encrypted repository.
    ///   - luksKey: location of the key of the disk's LUKS volumes.
    func capture(
        _ selector: DiskSelector, to location: ImageAddress, key: ImageAddress? = nil, luksKey: ImageAddress? = nil
    ) throws(JobFailure) -> JobOutcome {
        let password = try key.map { key throws(JobFailure) in try PasswordFile(key, machine, say) }
        let luks = try luksKey.map { key throws(JobFailure) in try PasswordFile(key, as: "luks-key", machine, say) }
        defer { withExtendedLifetime((password, luks)) {} }
        return try capture(selector, to: location, password: password?.path, luksKey: luks?.path)
    }

    /// Runs a capture with the password in a file.
    func capture(
        _ selector: DiskSelector, to location: ImageAddress, password: FilePath?, luksKey: FilePath? = nil
    ) throws(JobFailure) -> JobOutcome {
        guard case .volume(let name, let path) = location else {
            throw JobFailure(
                .usage, "An image cannot be sent to \(location) yet; name a file on a volume.")
        }
        let volume = try machine.waitForVolume(name)
        let disk = try machine.waitForDisk(selector, imageDisks: machine.disksBelow(volume), reading: true)
        let mounted = try OpenedVolume(volume, writable: true)
        let destination: String
        if path.hasSuffix("@") {
            guard let repository = try mounted.resolveSnapshot(path) else {
                throw JobFailure(
                    .notFound,
                    "There is no repository at \(location). `reforge init-repo` makes one.")
            }
            destination = repository
        } else {
            destination = try mounted.resolveForCreation(path).string
        }
        say("Capturing \(disk.line) to \(location)")
        sayHowToEnd()
        let status = run(Self.captureJob(disk, destination, password: password, luksKey: luksKey)).status
        do { try mounted.unmount(after: status) } catch {
            say("error: \(error.message). The image may be incomplete.")
            if status == ExitStatus.done.rawValue {
                return JobOutcome(
                    ExitStatus.ioError.rawValue,
                    "The volume with the image could not be unmounted (74): the image may be incomplete. Verify it.",
                    disk: disk)
            }
        }
        return JobOutcome(status, ExitStatus.captureOutcome(status, disk: disk.identity.path), disk: disk)
    }

    /// A capture. A password also selects an encrypted image.
    static func captureJob(
        _ disk: DiskCandidate, _ destination: String, password: FilePath?, luksKey: FilePath? = nil
    ) -> JobFile {
        var job = CaptureJob(disk: disk.identity.path, image: destination)
        job.luksKeyFiles = luksKey.map { [$0.string] } ?? []
        job.encrypts = password != nil && !destination.hasSuffix("@")
        return JobFile(.capture(job), passwordFile: password?.string)
    }

    /// Runs boot repair of a disk, or shows its plan.
    func repairBoot(of disk: DiskCandidate, confirmed: Bool) -> JobOutcome {
        let path = disk.identity.path
        var job = BootRepairJob(disk: path)
        job.dryRun = !confirmed
        let status = run(JobFile(.repairBoot(job))).status
        return JobOutcome(status, ExitStatus.bootRepairOutcome(status, disk: path), disk: disk)
    }

    /// Shown before a long job.
    func sayHowToEnd() { say("To end it early, type c and press Enter.") }

    /// Runs a job in a child, with the messages on this process's output.
    func run(_ job: JobFile) -> JobEnd {
        do {
            let followed = try FollowedJob(job)
            return followed.end(console.wait(for: followed.child))
        } catch {
            say("error: \(error)")
            // It was not started: nothing was written.
            let outcome = Outcome(.ioError, diskState: .untouched)
            return JobEnd(
                status: ExitStatus.ioError.rawValue, report: Report(operation: job.job.operation, outcome: outcome))
        }
    }

    /// Runs a command, with the messages on this process's output.
    func run(_ arguments: [String]) -> ChildProcess.Ending {
        do {
            let child = try ChildProcess(
                arguments, output: .standardOutput, error: .standardError, newSession: true)
            return console.wait(for: child)
        } catch {
            say("error: \(error)")
            return .exited(ExitStatus.ioError.rawValue)
        }
    }

    /// An exit status in shell form.
    static func status(_ ending: ChildProcess.Ending) -> Int32 {
        switch ending {
        case .exited(let status): status
        case .signalled(let number): 128 + number
        }
    }
}
