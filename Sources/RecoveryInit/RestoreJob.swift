// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// A restore by `reforge restore`: mounts the source and the scratch volumes.
struct RestoreJob {
    let runner: JobRunner
    let settings: RecoverySettings.Restore
    /// The password file, if needed.
    let password: FilePath?
    /// The key file of LUKS volumes.
    let luksKey: FilePath?
    /// Whether it may write; otherwise it shows its plan.
    let confirmed: Bool

    /// The source of the image.
    private enum Source {
        case address(String)
        case file(BlockVolume, path: String)

        var volume: BlockVolume? {
            if case .file(let volume, _) = self { volume } else { nil }
        }
    }

    /// A scratch folder on a volume, for shrinking filesystems.
    private struct Scratch {
        var volume: BlockVolume
        var path: String
    }

    /// The source, scratch and target of a restore, once available.
    private struct Places {
        var source: Source
        var scratch: Scratch?
        var disk: DiskCandidate
    }

    /// Waits for the needed devices.
    private func places() throws(JobFailure) -> Places {
        let machine = runner.machine
        let source: Source =
            switch settings.image {
            case .http(let address): .address(address)
            case .volume(let name, let path): .file(try machine.waitForVolume(name), path: path)
            case .stream, .path, .snapshot: throw JobFailure(.usage, "\(settings.image) names no volume.")
            }
        var scratch: Scratch?
        if case .volume(let name, let path) = settings.scratch {
            scratch = Scratch(volume: try machine.waitForVolume(name), path: path)
        }
        let disk = try machine.waitForDisk(
            settings.target, imageDisks: source.volume.map(machine.disksBelow) ?? [],
            scratchDisks: scratch.map { machine.disksBelow($0.volume) } ?? [])
        return Places(source: source, scratch: scratch, disk: disk)
    }

    /// The note on the target disk from a restore with the same job id; `nil` if there is no note or no such disk.
    func note() -> RestoreNote? {
        settings.jobID == nil ? nil : (try? places().disk).flatMap(note(on:))
    }

    private func note(on disk: DiskCandidate) -> RestoreNote? {
        guard let jobID = settings.jobID,
            let device = try? BlockDevice(opening: FilePath(disk.identity.path)),
            let note = try? RestoreNote.find(on: device), note.jobID == jobID,
            note.isOf(disk.identity, byteCount: disk.byteCount)
        else { return nil }
        return note
    }

    /// - Returns: the result of `reforge restore`, or the reason it did not start.
    func run() throws(JobFailure) -> JobOutcome {
        let job = try places()
        var outcome = try attempts(job)
        if settings.jobID != nil, confirmed, outcome.isDataComplete { outcome.lacksNote = note(on: job.disk) == nil }
        return outcome
    }

    private func attempts(_ job: Places) throws(JobFailure) -> JobOutcome {
        let (source, scratch, disk) = (job.source, job.scratch, job.disk)
        let machine = runner.machine
        if case .address = source { try runner.bringUpNetwork() }
        var outcome = try attempt(source, onto: disk, scratch)
        guard scratch == nil else { return outcome }
        // Memory was too small for the scratch, and nothing was written. Decrypted data must not be stored on a volume
        // without an explicit setting.
        let places = password == nil ? [source.volume, machine.medium.volume].compactMap(\.self) : []
        for volume in Self.scratchVolumes(places)
        where outcome.status == ExitStatus.cannotCreate.rawValue {
            guard !machine.disksBelow(volume).contains(disk.identity.kernelName ?? "") else { continue }
            runner.say("Once more, with a scratch on \(volume.line)")
            do { outcome = try attempt(source, onto: disk, Scratch(volume: volume, path: "/")) } catch {
                runner.say("error: \(error.message)")
            }
        }
        if outcome.status == ExitStatus.cannotCreate.rawValue {
            outcome.text += " The settings can name a folder with more space: scratch=LABEL=NAME:/folder."
        }
        return outcome
    }

    /// The possible scratch volumes, in order of preference: first those with sparse files.
    static func scratchVolumes(_ volumes: [BlockVolume]) -> [BlockVolume] {
        var places: [BlockVolume] = []
        for volume in volumes
        where volume.isMountable(writable: true)
            && !places.contains(where: { $0.node == volume.node })
        {
            places.append(volume)
        }
        func hasSparseFiles(_ volume: BlockVolume) -> Bool { !["vfat", "exfat"].contains(volume.type) }
        return places.filter(hasSparseFiles) + places.filter { !hasSparseFiles($0) }
    }

    private func attempt(
        _ source: Source, onto disk: DiskCandidate, _ scratch: Scratch?
    ) throws(JobFailure) -> JobOutcome {
        switch source {
        case .address(let address):
            guard let scratch else { return try restore(address: address, onto: disk, scratch: nil) }
            let mounted = try OpenedVolume(scratch.volume, writable: true)
            let folder = try mounted.madeFolder(scratch.path)
            return ended(try restore(address: address, onto: disk, scratch: folder), mounted)
        case .file(let volume, let path):
            // A device is mounted only once: read-only or writable.
            let isShared = scratch?.volume.node == volume.node
            let mounted = try OpenedVolume(volume, writable: isShared)
            let image = try mounted.resolveImage(path)
            guard let scratch, !isShared else {
                let folder = try scratch.map { scratch throws(JobFailure) in try mounted.madeFolder(scratch.path) }
                return ended(try restore(image, onto: disk, scratch: folder), mounted)
            }
            let other = try OpenedVolume(scratch.volume, writable: true)
            let folder = try other.madeFolder(scratch.path)
            return ended(ended(try restore(image, onto: disk, scratch: folder), other), mounted)
        }
    }

    /// Unmounts a volume after the command that used it.
    private func ended(_ outcome: JobOutcome, _ mounted: consuming OpenedVolume) -> JobOutcome {
        do { try mounted.unmount(after: outcome.status) } catch { runner.say("warning: \(error.message)") }
        return outcome
    }

    private func restore(
        _ image: String, onto disk: DiskCandidate, scratch: FilePath?
    ) throws(JobFailure) -> JobOutcome {
        var imageID: String?
        if let wanted = settings.imageID {
            imageID = try checkedImageID(of: image, is: wanted)
        } else if confirmed {
            // Only for the record: the restore itself reports problems of the image.
            imageID = try? self.imageID(of: image)
        }
        announce(disk)
        return outcome(runner.run(job(image, disk, scratch: scratch, streamed: false)), disk, imageID)
    }

    private func restore(
        address: String, onto disk: DiskCandidate, scratch: FilePath?
    ) throws(JobFailure) -> JobOutcome {
        announce(disk)
        let streamed = try HTTPStream.run(
            address, into: job("-", disk, scratch: scratch, streamed: true), waitingAt: runner.console)
        let status = streamed.reader.status
        // On success the reader's status counts, as it commits only after a matching footer. Its status also counts if
        // it refused to begin.
        let isReaders = [ExitStatus.done, .incomplete, .cannotCreate].contains { $0.rawValue == status }
        guard !isReaders, let failure = streamed.failure else {
            return outcome(streamed.reader, disk, settings.imageID)
        }
        runner.say("error: \(failure.message)")
        let state =
            switch streamed.reader.report?.outcome.diskState {
            case .untouched: "untouched"
            case .complete, .salvaged: "complete"
            case .partial, nil: "partial; run the same restore again to resume it"
            }
        return JobOutcome(
            failure.status.rawValue, "\(JobOutcome(failure).text) \(disk.identity.path) is \(state).", disk: disk)
    }

    private func announce(_ disk: DiskCandidate) {
        runner.say("\(confirmed ? "Restoring" : "The plan for") \(settings.image) onto \(disk.line)")
        if confirmed { runner.sayHowToEnd() }
    }

    private func outcome(_ end: JobEnd, _ disk: DiskCandidate, _ imageID: String?) -> JobOutcome {
        JobOutcome(
            end.status, ExitStatus.restoreOutcome(end, disk: disk.identity.path), disk: disk,
            imageID: imageID ?? end.report?.imageID)
    }

    private func job(_ image: String, _ disk: DiskCandidate, scratch: FilePath?, streamed: Bool) -> JobFile {
        Self.job(
            image, settings, disk, password: password, luksKey: luksKey, scratch: scratch, confirmed: confirmed,
            streamed: streamed)
    }

    /// The restore job of the settings, for a resolved image and disk.
    static func job(
        _ image: String, _ settings: RecoverySettings.Restore, _ disk: DiskCandidate, password: FilePath? = nil,
        luksKey: FilePath? = nil, scratch: FilePath? = nil, confirmed: Bool, streamed: Bool
    ) -> JobFile {
        var job = JobModel.RestoreJob(image: image, disk: disk.identity.path)
        (job.isConfirmed, job.dryRun) = (confirmed, !confirmed)
        if let layout = settings.layout { job.layout = layout.rawValue }
        (job.partitions, job.verifies) = (settings.partitions, settings.verify)
        if !settings.repairsBoot { job.repairsBoot = false }
        (job.trustsUnknown, job.firmware) = (settings.trustsUnknown, settings.firmware.rawValue)
        // Minutes may have passed since the disk was chosen: its name may now denote another disk.
        job.expectedDiskSequence = disk.identity.diskSequence
        job.jobID = settings.jobID
        (job.newIdentity, job.hooks) = (settings.newIdentity?.description, settings.hooks)
        job.luksKeyFiles = luksKey.map { [$0.string] } ?? []
        job.scratch = scratch?.string
        // A stream can be read only once: the restore itself compares the id before its first write.
        if streamed { job.expectedImageID = settings.imageID }
        return JobFile(.restore(job), passwordFile: password?.string)
    }

    /// Whether `wanted`, an id or a prefix of one, matches the id `found`.
    static func isID(_ found: String, named wanted: String) -> Bool {
        found.lowercased().hasPrefix(wanted.lowercased())
    }

    private func checkedImageID(of image: String, is wanted: String) throws(JobFailure) -> String {
        let found = try imageID(of: image)
        guard Self.isID(found, named: wanted) else {
            throw JobFailure(
                .badImage,
                "\(settings.image) is not the image in the settings: its id is \(found.printable), not \(wanted). Nothing was written."
            )
        }
        return found
    }

    /// The image id from `reforge inspect`.
    private func imageID(of image: String) throws(JobFailure) -> String {
        guard
            let output = try? ChildProcess.run(
                [RecoveryPaths.program, "inspect", image, "--json"]
                    + (password.map { ["--password-file", $0.string] } ?? []), timeoutSeconds: 600)
        else { throw JobFailure(.ioError, "`reforge inspect` did not start. Nothing was written.") }
        guard output.succeeded else {
            throw JobFailure(
                ExitStatus(rawValue: JobRunner.status(output.ending)) ?? .ioError,
                "\(settings.image) could not be inspected: \(output.lastWords.printable). Nothing was written.")
        }
        guard let found = InspectedImage(json: output.standardOutput)?.imageID else {
            throw JobFailure(.badImage, "\(settings.image) shows no image id. Nothing was written.")
        }
        return found
    }
}
