// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import FilesystemResize
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// Restores an image or a snapshot onto a disk.
///
/// Survey, plan, question, write, boot repair: nothing is written before the plan was reported and confirmed.
/// `diskState` is the state of the target at any moment.
package final class RestoreOperation {
    let job: RestoreJob
    let keys: KeyRing
    let events: any EventSink
    var cancellation: Cancellation { keys.cancellation }
    let confirmer: any Confirmer
    /// The state of the target, shared with the executor.
    private let targetState: Monitor<TargetState>
    /// Whether the target is an unfinished file that another operation removes after a failure: messages must not say
    /// how to continue with it.
    private let isPart: Bool
    /// Whether the same job could continue from the state that this one leaves.
    private var goesOn = true
    /// The disk that is cloned; `nil` for an image.
    private(set) var clone: ClonedDisk?
    /// The partition table of the image, once it is planned with.
    var capturedTable: PartitionTable?
    var image: String { job.image }
    var disk: String { job.disk }

    /// - Parameters:
    ///   - keys: the job's passwords.
    ///   - isPart: whether the target is an unfinished file of another operation.
    package init(
        _ job: RestoreJob, keys: KeyRing, events: any EventSink, confirmer: any Confirmer, isPart: Bool = false
    ) {
        self.isPart = isPart
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
        self.confirmer = confirmer
        targetState = Monitor(TargetState())
    }

    /// The current state of the target. From any thread.
    package var diskState: RestoreExecutor.DiskState { targetState.update { $0 }.value }

    /// Sentences on the state of the target if the job ends now. From any thread.
    package var leftBehind: @Sendable (ExitStatus) -> String {
        { [targetState, job] status in
            let state = targetState.update { $0 }
            guard state.isCommitting else {
                return Self.sentence(job, state.value, status, goesOn: true)
            }
            return
                "\(job.disk) has all data, and its partition table was being written: it may be whole, or boot nothing. Run the "
                + "same command again to make sure (faster with --delta)."
        }
    }

    /// The current state of the target, independent of this object. From any thread.
    package var diskStateNow: @Sendable () -> String? {
        { [targetState] in targetState.update { $0 }.value.rawValue }
    }

    /// Runs the restore.
    /// - Throws: `JobFailure`, with the state of the target and what to do next.
    package func run() throws -> RestoreReport {
        do {
            let report = try restore()
            events.take(.finished(finished(report.status, report.lossSentence(job), report)))
            return report
        } catch {
            var failure = cloneFailure(error) ?? JobFailure(error, cancellation: cancellation)
            if !job.dryRun, !isPart {
                failure = failure.followed(by: Self.sentence(job, diskState, failure.status, goesOn: goesOn))
            }
            if !isPart { failure = advised(failure, error) }
            events.take(.finished(finished(failure.status, failure.message, nil)))
            throw failure
        }
    }

    private func finished(_ status: ExitStatus, _ message: String?, _ report: RestoreReport?) -> Report {
        Report(
            operation: "restore",
            outcome: Outcome(status, diskState: DiskState(rawValue: (report?.diskState ?? diskState).rawValue)),
            message: message, imageID: report?.imageID, writtenByteCount: report?.writtenByteCount,
            seconds: report?.seconds)
    }

    private func restore() throws -> RestoreReport {
        let start = SystemFacts.monotonicSeconds()
        if let why = job.contradiction { throw JobFailure(.usage, why) }
        if let jobID = job.jobID, !RestoreNote.isJobID(jobID) {
            throw JobFailure(.usage, "a job's id has 1 to 64 letters, digits, dots, hyphens and underscores")
        }
        let changes = try SystemChanges(newIdentity: job.newIdentity, hooks: job.hooks)
        // Before IMAGE is examined: for a swapped command line, this message names the mistake.
        try TargetGuard.refuse(try? KnownImage.identify(fileAt: FilePath(disk)), at: disk)
        let input = try openedInput()
        clone = input.clone
        try keys.refuseUnused(image)
        // All lists of a snapshot must be readable, and all of its chunks known, before the target is overwritten.
        if input.snapshot != nil, !job.salvages {
            try again(input, .restore).reading { lists in
                while try lists.nextRecord() != nil { try cancellation.check() }
            }
        }
        if let expectImageID = job.expectedImageID, let id = try knownID(input)?.description,
            !id.hasPrefix(expectImageID.lowercased())
        {
            throw JobFailure(
                .badImage, "\(image) has the id \(id), not \(expectImageID): it is another image than asked for")
        }
        let stream = input.reader
        let (written, file) = try plannedAndWritten(input)
        var report = written
        if job.dryRun { return report }
        // New identifiers come before boot repair, which then makes loaders anew that hold the old ones.
        let diskName = stream.header.manifest.disk.kernelName
        if let identity = changes.identity { renewIdentity(identity, &report, file, capturedDiskName: diskName) }
        switch bootRepairChoice(stream.header.manifest) {
        case .done:
            repairBoot(&report, file, capturedDiskName: diskName, isClone: clone != nil)
        case .leftOut:
            events.log(
                "boot repair was left out. Where \(disk) does not start: `reforge boot-repair \(disk)`, best on the machine that "
                    + "it is for, from the Reforge medium")
            if let conversion = report.plan.plan.conversion {
                report.incomplete.append(
                    "boot repair: it was left out, and until it is done, \(disk) does not start by "
                        + "\(Firmware(conversion.goal)); start the machine from the Reforge medium and run: reforge "
                        + "boot-repair \(disk)")
            }
        case .notNeeded: break
        }
        if !changes.hooks.isEmpty { runHooks(changes.hooks, &report, file, capturedDiskName: diskName) }
        report.seconds = SystemFacts.monotonicSeconds() - start
        return report
    }

    /// Plans, asks, and writes. The target is held from the survey to the last write. A device is closed at the end,
    /// because boot repair mounts the restored filesystems; a file is returned, still claimed.
    private func plannedAndWritten(_ input: OpenedImage) throws -> (RestoreReport, OpenedDisk?) {
        let target = try openedTarget(input)
        let (input, prepared) = try prepared(input, target)
        if job.dryRun { return (rehearsed(prepared, input), nil) }
        events.take(.planned(prepared.text))
        if let unfinished = prepared.unfinished { events.log(unfinished.description) }
        if job.verifiesFirst {
            let outcome = try again(input, .verify).verified(events, cancellation)
            events.log("\(image) is whole: \(outcome.chunkCount) chunks")
        }
        if let read = prepared.stream.salvage {
            try confirmLosses(
                (prepared.survey ?? read).code(imageUUID: input.reader.header.manifest.imageUUID), prepared.foreseen)
        }
        try confirmSource(prepared.clone)
        try confirm(target, prepared)
        return (try write(prepared, input, target), target.device.isDevice ? nil : target)
    }

    private func openedTarget(_ input: OpenedImage) throws -> OpenedDisk {
        let target = try OpenedDisk(disk, job.dryRun ? .readOnly : .exclusiveWrite, sectorSize: job.sectorSize)
        if let expected = job.expectedDiskSequence, target.device.diskSequence != expected {
            throw JobFailure(
                .refused,
                "\(disk) is another disk than the one that was chosen (sequence number "
                    + "\(target.device.diskSequence.map(String.init) ?? "unknown"), not \(expected))")
        }
        try TargetGuard.refuseDanger(target, image: input.path, isTrial: job.dryRun, events, cancellation)
        try target.claimTarget(isTrial: job.dryRun)
        return target
    }

    /// The facts that are known before the first write.
    struct Prepared {
        var plan: RestorePlan
        var text: PlanText
        /// How the restored disk will start, as far as that is known.
        var findings: [Finding]
        /// The interrupted restore that the target holds.
        var unfinished: RestoreExecutor.Unfinished?
        /// The reader to restore from.
        var stream: any ImageReader
        /// With `salvages`, the losses found.
        var survey: Salvage?
        var foreseen: [LostRange]
        var luksKeyFiles: [FilePath]
        /// For a clone, its source and target.
        var clone: CloneFacts?
    }

    /// Images of another tool are streamed, so that the least sizes of their filesystems are unknown. If the target is
    /// refused therefore, they are decompressed into a scratch, and surveyed there.
    private func prepared(_ input: OpenedImage, _ target: OpenedDisk) throws -> (OpenedImage, Prepared) {
        do { return (input, try prepare(input, target)) } catch ImagingError.refused(let why) where input.isStreamed {
            events.log("\(image) cannot be restored onto \(disk) while it is streamed: \(why)")
            let spooled = try OpenedImage.open(image, keys, salvages: job.salvages, scratch: .always)
            return (spooled, try prepare(spooled, target))
        }
    }

    private func prepare(_ input: OpenedImage, _ target: OpenedDisk) throws -> Prepared {
        let header = input.reader.header
        var plan = try makePlan(header, target)
        let holes = header.manifest.holes(
            input.ending?.lateFacts.unreadable ?? input.reader.unread)
        plan.warnings += holes.map(RestorePlan.Warning.unreadable)
        let luksKeyFiles = try LUKSKeys(job.luksKeyFiles).keyFiles()
        try refuseObstacles(to: plan)
        try plan.checkTable(header)
        try tryKeys(luksKeyFiles, on: &plan, input)
        let unfinished = plan.only == nil ? try RestoreExecutor.unfinished(on: target.device, plan) : nil
        let (stream, survey) = try salvaging(input)
        let foreseen = plan.lostRanges(survey?.losses ?? [], header)
        // Of a clone, what the survey could not read.
        let unread = plan.lostRanges(input.reader.unreadLosses, header)
        let holed = foreseen + unread
        let obstacle = plan.shrinks.lazy.filter { shrink in holed.contains { $0.partition == shrink.number } }
            .compactMap(\.obstacleWithLosses).first
        if let obstacle { throw JobFailure(.refused, obstacle) }
        let clone = try cloneFacts(target)
        let findings = foreseenFindings(header.manifest, plan, target)
        let text = PlanText(
            restore: plan, header.manifest, isSnapshot: input.snapshot != nil,
            bootRepair: bootRepairChoice(header.manifest), findings: findings,
            lost: foreseen, disks: clone?.lines,
            changes: try SystemChanges(newIdentity: job.newIdentity, hooks: job.hooks).lines)
        return Prepared(
            plan: plan, text: text, findings: findings, unfinished: unfinished, stream: stream, survey: survey,
            foreseen: foreseen,
            luksKeyFiles: luksKeyFiles, clone: clone)
    }

    /// The report of a dry run.
    private func rehearsed(_ prepared: Prepared, _ input: OpenedImage) -> RestoreReport {
        var report = RestoreReport(
            dryRun: true, image: image, imageID: input.ending?.id.description,
            plan: .init(prepared.plan), diskState: .untouched,
            warnings: prepared.plan.warnings.map(\.sentence), damage: prepared.survey?.findings ?? [],
            lost: prepared.foreseen)
        report.planText = prepared.text
        report.findings = prepared.findings
        report.unfinished = prepared.unfinished?.description
        if prepared.stream.salvage != nil, let survey = prepared.survey {
            report.confirmation =
                "--confirm-salvage \(survey.code(imageUUID: input.reader.header.manifest.imageUUID)) confirms these losses without "
                + "a terminal"
        }
        if let sign = prepared.clone?.swapSign { report.warnings.append("are the two swapped? \(sign)") }
        report.confirmation = report.confirmation ?? swapConfirmation(prepared.clone)
        noteClone(&report)
        return report
    }

    private func write(_ prepared: Prepared, _ input: OpenedImage, _ target: OpenedDisk) throws -> RestoreReport {
        let (plan, header) = (prepared.plan, input.reader.header)
        var room: RestoreScratch?
        if plan.scratchRoom != nil {
            let folder = try RestoreScratch.folder(
                job.scratch.map { FilePath($0) }, image: input.path, isEncrypted: prepared.stream.coding.isEncrypted)
            room = try RestoreScratch(in: folder, for: plan, chunkByteCount: header.manifest.chunkByteCount)
        }
        try TargetGuard.checkIdentity(target)
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        let executor = RestoreExecutor(
            plan, target: target.device, targetPath: target.device.path,
            options: .init(
                verify: job.verifies, discard: job.discards, delta: job.isDelta, luksKeyFiles: prepared.luksKeyFiles,
                jobID: job.jobID), progress: progress, cancellation: cancellation,
            expectedImageID: job.expectedImageID, scratch: room)
        targetState.update { $0 = executor.stateNow }
        defer {
            reporter.end()
            goesOn = executor.goesOn
        }
        let outcome = try executor.run(prepared.stream)
        // A kernel that does not take the new table is no error: boot repair reaches volumes by their offsets.
        _ = target.device.rereadPartitionTable()
        if !outcome.lost.isEmpty { progress.show("look for the files that lost contents", done: 0, total: 0) }
        // What a clone could not read during the survey is among what it could not read at all.
        let remarks = plan.warnings.filter { warning in
            if case .unreadable = warning { return clone == nil }
            return true
        }
        var report = RestoreReport(
            dryRun: false, image: image, imageID: prepared.stream.ending?.id.description,
            plan: .init(plan), diskState: executor.state,
            writtenByteCount: outcome.writtenByteCount, resumedFrom: outcome.resumedFrom,
            warnings: remarks.map(\.sentence) + outcome.warnings, incomplete: outcome.failedGrowths,
            damage: prepared.stream.salvage?.findings ?? [], lost: outcome.lost,
            lostFiles: LostFiles.find(outcome.lost, plan, header, on: target.device.path))
        report.findings = prepared.findings
        noteClone(&report)
        return report
    }

    /// The state of the disk, and what to do next.
    private static func sentence(
        _ job: RestoreJob, _ state: RestoreExecutor.DiskState, _ status: ExitStatus, goesOn: Bool
    ) -> String {
        let disk = job.disk
        if let only = job.only, state == .partial {
            return
                "Partition \(job.into ?? only) of \(disk) is partly written, and holds no filesystem; all others are unchanged. Run the same command again to rewrite it."
        }
        return switch state {
        case .untouched: "Nothing was written to \(disk)."
        case .partial where status == .badImage:
            "\(disk) is partly written, has no partition table and boots nothing; with a whole image, the same command continues."
        case .partial where !goesOn:
            "\(disk) is partly written and boots nothing. The same command would end the same: restore with other sizes (--partition N=SIZE) or onto a larger disk."
        case .partial: "\(disk) is partly written and boots nothing; run the same command to continue."
        case .complete: "All data on \(disk) is complete."
        case .salvaged: "\(disk) has its partition table, and all data that could be read."
        }
    }

    /// Adds whether `--salvage` could help.
    func advised(_ failure: JobFailure, _ error: any Error) -> JobFailure {
        // An image other than the requested one is not salvaged.
        guard job.expectedImageID == nil, SalvageAdvice.isDamage(error) else { return failure }
        switch (job.salvages, SalvageAdvice.isUseful(error, image: image, keys)) {
        case (false, true):
            return failure.followed(
                by: "`reforge restore --salvage` restores the rest, with zeros in place of lost data.")
        case (true, false):
            return failure.followed(
                by: "--salvage needs the header and the maps of an image, or the manifest of a snapshot.")
        default: return failure
        }
    }
}
