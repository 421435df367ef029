// SPDX-License-Identifier: GPL-3.0-or-later
internal import DiskModel
internal import LinuxSystem
internal import SystemPackage

/// The line by which scripts and tests see that an unattended job is over.
enum ResultLine {
    static func text(_ status: Int32) -> String { "REFORGE-RESULT exit=\(status)" }
}

/// What the job marker says of this boot's unattended job.
enum JobMarker {
    static let running = "running"
    static let ended = "ended"

    static func set(_ text: String) { try? Files.write(Array(text.utf8), to: RecoveryPaths.jobMarker) }
}

/// Runs restores and captures by the commands of this very program, and says what happens.
struct JobRunner {
    let machine: MachineView
    let console: SessionConsole
    private var say: (String) -> Void { { console.say($0) } }

    init(machine: MachineView, console: SessionConsole) {
        self.machine = machine
        self.console = console
    }

    /// Brings the network up, for a person who asks for it.
    func bringUpNetwork() throws(RecoveryError) { try Network(say: say).bringUp() }

    /// A restore.
    /// - Parameters:
    ///   - key: where the password is, where one is needed.
    ///   - luksKey: where the key of LUKS volumes is, whose insides are to grow with them.
    ///   - confirmed: whether it may write; otherwise it shows its plan.
    /// - Returns: the exit status of `reforge restore`, or of what kept it from starting.
    func restore(
        _ job: RecoverySettings.Restore, key: Location? = nil, luksKey: Location? = nil, confirmed: Bool = true
    ) throws(RecoveryError) -> Int32 {
        let password = try key.map { key throws(RecoveryError) in try PasswordFile(key, machine, say) }
        let luks = try luksKey.map { key throws(RecoveryError) in try PasswordFile(key, as: "luks-key", machine, say) }
        // The files go with their owners: not before the command has ended.
        defer { withExtendedLifetime((password, luks)) {} }
        return try restore(job, password: password?.path, luksKey: luks?.path, confirmed: confirmed)
    }

    /// The same with the password in a file.
    func restore(
        _ job: RecoverySettings.Restore, password: FilePath?, luksKey: FilePath? = nil, confirmed: Bool = true
    ) throws(RecoveryError) -> Int32 {
        switch job.image {
        case .http(let address):
            try Network(say: say).bringUp()
            let disk = try machine.waitForDisk(job.target, imageDisks: [])
            return try restore(address: address, job, password, luksKey, onto: disk, confirmed: confirmed)
        case .file(let name, let path):
            let volume = try machine.waitForVolume(name)
            let mounted = try MountedVolume(volume)
            let image = try resolveImage(path, on: mounted)
            let disk = try machine.waitForDisk(job.target, imageDisks: machine.disksBelow(volume))
            return try restore(image, named: job.image, job, password, luksKey, onto: disk, confirmed: confirmed)
        }
    }

    /// What the commands call an image: its path, the one of its first part where it was split (`NAME.000`), or the folder
    /// of a repository and the snapshot behind it.
    private func resolveImage(_ path: String, on mounted: borrowing MountedVolume) throws(RecoveryError) -> String {
        do { return try mounted.resolve(path).string } catch {
            if let first = try? mounted.resolve(path + ".000") { return first.string }
            guard let snapshot = try resolveSnapshot(path, on: mounted) else { throw error }
            return snapshot
        }
    }

    /// `FOLDER@SELECTOR` with the folder's real path; `nil` where the path is not of that form, or there is no such folder.
    private func resolveSnapshot(_ path: String, on mounted: borrowing MountedVolume) throws(RecoveryError) -> String? {
        for (folder, selector) in SnapshotPath.splits(path) {
            guard let real = try? mounted.resolve(folder),
                Files.exists(real.appending(SnapshotPath.configurationFile))
            else { continue }
            return "\(real)@\(selector)"
        }
        return nil
    }

    private func restore(
        _ image: String, named name: Location, _ job: RecoverySettings.Restore, _ password: FilePath?,
        _ luksKey: FilePath?, onto disk: DiskCandidate, confirmed: Bool
    ) throws(RecoveryError) -> Int32 {
        if let wanted = job.imageID { try checkImageID(of: image, named: name, password, is: wanted) }
        announce(name, disk, confirmed)
        let status = Self.status(
            run(
                Self.restoreCommand(
                    image, job, disk, password: password, luksKey: luksKey, confirmed: confirmed, streamed: false)))
        if confirmed { say(ExitStatus.restoreOutcome(status, disk: disk.identity.path)) }
        return status
    }

    private func restore(
        address: String, _ job: RecoverySettings.Restore, _ password: FilePath?, _ luksKey: FilePath?,
        onto disk: DiskCandidate, confirmed: Bool
    ) throws(RecoveryError) -> Int32 {
        announce(job.image, disk, confirmed)
        let outcome = try HTTPStream.run(
            address,
            into: Self.restoreCommand(
                "-", job, disk, password: password, luksKey: luksKey, confirmed: confirmed, streamed: true),
            waitingAt: console)
        let status = Self.status(outcome.reader)
        // The reader is right about success: it commits only after a footer that matches.
        if status == ExitStatus.done || status == ExitStatus.repairPending {
            if confirmed { say(ExitStatus.restoreOutcome(status, disk: disk.identity.path)) }
            return status
        }
        if let failure = outcome.failure {
            say("error: \(failure.message)")
            say(
                "\(disk.identity.path) is \(failure.status == ExitStatus.inputOutput ? "partial if anything was written; the same restore goes on where it was" : "untouched")."
            )
            return failure.status
        }
        if confirmed { say(ExitStatus.restoreOutcome(status, disk: disk.identity.path)) }
        return status
    }

    private func announce(_ image: Location, _ disk: DiskCandidate, _ confirmed: Bool) {
        say("\(confirmed ? "Restoring" : "The plan for") \(image) onto \(disk.line)")
    }

    /// The command line of a restore.
    static func restoreCommand(
        _ image: String, _ job: RecoverySettings.Restore, _ disk: DiskCandidate, password: FilePath? = nil,
        luksKey: FilePath? = nil, confirmed: Bool, streamed: Bool
    ) -> [String] {
        var command = [RecoveryPaths.program, "restore", image, disk.identity.path, confirmed ? "--yes" : "--dry-run"]
        if let layout = job.layout { command += ["--layout", layout.rawValue] }
        for partition in job.partitions { command += ["--partition", partition] }
        if job.verify { command.append("--verify") }
        if !job.repairsBoot { command.append("--no-boot-repair") }
        if job.trustsUnknown { command.append("--trust-unknown") }
        if let password { command += ["--password-file", password.string] }
        if let luksKey { command += ["--luks-key-file", luksKey.string] }
        // A stream can be looked at only once: there the restore itself compares before its first write.
        if streamed, let id = job.imageID { command += ["--expect-image-id", id] }
        return command
    }

    private func checkImageID(
        of image: String, named name: Location, _ password: FilePath?, is wanted: String
    ) throws(RecoveryError) {
        guard
            let output = try? ChildProcess.run(
                [RecoveryPaths.program, "inspect", image, "--json"]
                    + (password.map { ["--password-file", $0.string] } ?? []), timeoutSeconds: 600)
        else { throw RecoveryError(ExitStatus.inputOutput, "`reforge inspect` did not start. Nothing was written.") }
        guard output.succeeded else {
            throw RecoveryError(
                Self.status(output.ending),
                "\(name) could not be inspected: \(output.lastWords.printable). Nothing was written.")
        }
        guard let image = InspectedImage(json: output.standardOutput), let found = image.imageID else {
            throw RecoveryError(ExitStatus.damagedImage, "\(name) shows no image id. Nothing was written.")
        }
        guard image.hasID(wanted) else {
            throw RecoveryError(
                ExitStatus.damagedImage,
                "\(name) is another image than the settings ask for: its id is \(found.printable), not \(wanted). Nothing was written."
            )
        }
    }

    /// Lists the snapshots of a repository.
    /// - Returns: the exit status of `reforge snapshots`.
    func listSnapshots(_ repository: Location, password: FilePath?) throws(RecoveryError) -> Int32 {
        guard case .file(let name, let path) = repository else {
            throw RecoveryError(ExitStatus.usage, "\(repository) is no repository on a volume.")
        }
        let mounted = try MountedVolume(try machine.waitForVolume(name))
        let folder = try mounted.resolve(String(path.dropLast()))
        return Self.status(
            run(
                [RecoveryPaths.program, "snapshots", folder.string]
                    + (password.map { ["--password-file", $0.string] } ?? [])))
    }

    /// Whether a repository takes a password.
    func isEncrypted(_ repository: Location) throws(RecoveryError) -> Bool {
        guard case .file(let name, let path) = repository else { return false }
        let mounted = try MountedVolume(try machine.waitForVolume(name))
        let folder = try mounted.resolve(String(path.dropLast()))
        return Files.exists(folder.appending("keys")) && !Files.names(in: folder.appending("keys")).isEmpty
    }

    /// A capture.
    /// - Parameters:
    ///   - key: where the password of an encrypted repository is.
    ///   - luksKey: where the key of the disk's LUKS volumes is.
    func capture(
        _ selector: DiskSelector, to location: Location, key: Location? = nil, luksKey: Location? = nil
    ) throws(RecoveryError) -> Int32 {
        let password = try key.map { key throws(RecoveryError) in try PasswordFile(key, machine, say) }
        let luks = try luksKey.map { key throws(RecoveryError) in try PasswordFile(key, as: "luks-key", machine, say) }
        defer { withExtendedLifetime((password, luks)) {} }
        return try capture(selector, to: location, password: password?.path, luksKey: luks?.path)
    }

    /// The same with the password in a file.
    func capture(
        _ selector: DiskSelector, to location: Location, password: FilePath?, luksKey: FilePath? = nil
    ) throws(RecoveryError) -> Int32 {
        guard case .file(let name, let path) = location else {
            throw RecoveryError(
                ExitStatus.usage, "An image cannot be sent to \(location) yet; name a file on a volume.")
        }
        let volume = try machine.waitForVolume(name)
        let disk = try machine.waitForDisk(selector, imageDisks: machine.disksBelow(volume), reading: true)
        let mounted = try MountedVolume(volume, writable: true)
        let destination: String
        if path.hasSuffix("@") {
            guard let repository = try resolveSnapshot(path, on: mounted) else {
                throw RecoveryError(
                    ExitStatus.notFound,
                    "There is no repository at \(location). `reforge init-repo` makes one.")
            }
            destination = repository
        } else {
            destination = try mounted.resolveForCreation(path).string
        }
        say("Capturing \(disk.line) to \(location)")
        let status = Self.status(
            run(Self.captureCommand(disk, destination, password: password, luksKey: luksKey)))
        do { try mounted.unmount() } catch {
            say("error: \(error.message). The image may not be whole.")
            return status == ExitStatus.done ? ExitStatus.inputOutput : status
        }
        say(ExitStatus.captureOutcome(status, disk: disk.identity.path))
        return status
    }

    /// The command line of a capture. A password means an encrypted image, too.
    static func captureCommand(
        _ disk: DiskCandidate, _ destination: String, password: FilePath?, luksKey: FilePath? = nil
    ) -> [String] {
        var command = [RecoveryPaths.program, "capture", disk.identity.path, destination]
        if let luksKey { command += ["--luks-key-file", luksKey.string] }
        guard let password else { return command }
        if !destination.hasSuffix("@") { command.append("--encrypt") }
        command += ["--password-file", password.string]
        return command
    }

    /// Boot repair of a disk, or its plan.
    func repairBoot(of disk: DiskCandidate, confirmed: Bool) -> Int32 {
        Self.status(run([RecoveryPaths.program, "boot-repair", disk.identity.path] + (confirmed ? [] : ["--dry-run"])))
    }

    /// Runs a command whose messages go where ours go.
    private func run(_ arguments: [String]) -> ChildProcess.Ending {
        do {
            let child = try ChildProcess(
                arguments, output: .standardOutput, error: .standardError, newSession: true)
            return console.wait(for: child)
        } catch {
            say("error: \(error)")
            return .exited(ExitStatus.inputOutput)
        }
    }

    /// A status as a shell gives it.
    static func status(_ ending: ChildProcess.Ending) -> Int32 {
        switch ending {
        case .exited(let status): status
        case .signalled(let number): 128 + number
        }
    }
}
