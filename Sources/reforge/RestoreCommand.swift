// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
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
import Operations
import RecoveryInit
import Repository
import SystemPackage

struct RestoreCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Restores an image or a snapshot onto a disk. Everything on that disk is lost.",
        discussion: """
            Shows the plan first, and asks for the serial number or name of the target before anything is written.
            Until the last step the target boots nothing; an interrupted restore goes on with the same command.

            Examples:

              reforge restore laptop.img.zst /dev/nvme0n1 --dry-run
              reforge restore laptop.img.zst /dev/nvme0n1
              reforge restore laptop.img.zst /dev/nvme0n1 --layout keep --yes --verify
              reforge restore laptop.img.zst /dev/nvme0n1 --partition 3=40GiB --partition 4=rest --partition 5=drop
              reforge restore laptop.img.zst /dev/nvme0n1 --only 3
              reforge restore /mnt/backup/repo@web1/latest /dev/nvme0n1
              reforge restore /mnt/backup/repo@2026-11-01 /dev/sda --delta
              reforge restore damaged.img.zst /dev/nvme0n1 --salvage
              ssh store cat laptop.img.zst | reforge restore - /dev/nvme0n1 --yes
              truncate -s 64G disk.raw && reforge restore laptop.img.zst disk.raw --yes

            JSON fields: schema (1), dryRun, image, imageID, plan {imageUUID, target, geometry, request {policy, wishes}, items [{number, name, \
            type, filesystem, label, from, to, usedByteCount, action, volumes \
            [{name, filesystem, fromByteCount, toByteCount}]}], regionTargets, placements, only, tableIsUnchanged, growths, \
            shrinks, remakes, warnings}, diskState (untouched, partial, complete, salvaged), writtenByteCount, resumedFrom, bootRepair {changed, pending}, \
            warnings, incomplete, damage, lost [{partition, captured, target}], lostFiles [{partition, files, moreFiles, notes}], seconds.
            """)

    @Argument(
        help: "An image, a snapshot (REPO@latest, REPO@HOST/latest, REPO@ID, REPO@TIME), or - for standard input.")
    var image: String
    @Argument(help: "The target: a block device, or a raw image file whose length is the disk's size.") var disk: String
    @Option(
        help:
            "keep: sizes as captured. grow: the last partition that can grow takes what the target adds. proportional: all that can grow share it."
    )
    var layout = LayoutPolicy.grow
    @Option(
        help: ArgumentHelp(
            "What one partition is to have, by its number in the image: a size, keep, rest (what the others leave behind it) or drop (left out). May be repeated.",
            valueName: "N=SIZE"))
    var partition: [String] = []
    @Option(
        help: ArgumentHelp(
            "Restore this partition of the image alone, into the target's partition of the same number. Everything else on the target stays.",
            valueName: "N"))
    var only: Int?
    @Option(help: ArgumentHelp("With --only: into this partition of the target.", valueName: "N")) var into: Int?
    @Option(
        help:
            "A folder with room for what does not fit while filesystems are made smaller (default: beside the image; of an encrypted image: memory)."
    ) var scratch: String?
    @Flag(help: "Print the plan and write nothing.") var dryRun = false
    @Flag(help: "Do not ask.") var yes = false
    @Flag(help: "Read everything back from the medium and compare, before filesystems are resized.") var verify = false
    @Flag(help: "Read and check the whole image before the first write.") var verifyFirst = false
    @Flag(
        help:
            "Of a damaged image: restore all that is left, with zeros in place of what is lost, and list that. Exit code 65 where anything is lost."
    )
    var salvage = false
    @Option(
        help: ArgumentHelp(
            "With --salvage where no terminal can be asked: take exactly the losses that a run without it names by this code.",
            valueName: "CODE"))
    var confirmSalvage: String?
    @Flag(help: "Trim the target first.") var discard = false
    @Flag(help: "Read what the target holds, and write only the chunks that differ: for a rollback.") var delta = false
    @Flag(
        inversion: .prefixedNo,
        help:
            "Make the restored system start, by its own programs where it has them. Without either: in the recovery environment yes, elsewhere no."
    )
    var bootRepair: Bool?
    @Flag(
        help:
            "Onto a disk with sectors of another size: restore also what nobody knows to work there (raw contents, locked LUKS)."
    )
    var trustUnknown = false
    @Flag(help: "Print one JSON object.") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @Option(help: "Restore only the image with this id (or start of one).") var expectImageID: String?
    @Option(
        help: ArgumentHelp(
            "Restore only onto this attachment of a disk (diskseq in sysfs): a name can be another disk's by now.",
            valueName: "N")) var expectDiskSequence: UInt64?
    @Option(
        help: ArgumentHelp(
            "Note on the restored disk that this job is done, in front of its first partition: what reforge.job-id goes by.",
            valueName: "ID")) var jobID: String?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var luksOptions: LUKSOptions

    func validate() throws {
        if delta, discard {
            throw ValidationError(
                "--delta and --discard exclude each other: trimmed sectors hold nothing to compare with")
        }
        if only != nil, !partition.isEmpty || discard {
            throw ValidationError("--only goes neither with --partition nor with --discard")
        }
        if confirmSalvage != nil, !salvage { throw ValidationError("--confirm-salvage goes with --salvage") }
        if salvage, verifyFirst {
            throw ValidationError("--salvage reads the whole image first by itself: leave out --verify-first")
        }
        if only != nil, bootRepair == true { throw ValidationError("--only leaves boot repair out") }
        if into != nil, only == nil { throw ValidationError("--into goes with --only") }
        if image == "-", verifyFirst {
            throw ValidationError("--verify-first needs an image that can be read twice, not -")
        }
        do { _ = try LayoutRequest(policy: layout, parsing: partition) } catch {
            throw ValidationError("--partition: \(error)")
        }
        if let jobID, !RestoreNote.isJobID(jobID) {
            throw ValidationError("--job-id takes 1 to 64 letters, digits, dots, hyphens and underscores")
        }
        if only != nil, jobID != nil { throw ValidationError("--only goes not with --job-id") }
        if let id = expectImageID, id.isEmpty || !id.allSatisfy(\.isHexDigit) {
            throw ValidationError("--expect-image-id takes hexadecimal digits")
        }
    }

    private struct Report: Encodable {
        struct Repair: Encodable {
            var changed: [String]
            var pending: String?
        }
        var schema = 1
        var dryRun: Bool
        var image: String
        var imageID: String?
        var plan: RestorePlan
        var diskState: RestoreExecutor.DiskState
        var writtenByteCount: UInt64 = 0
        var resumedFrom: UInt64?
        var bootRepair: Repair?
        var warnings: [String]
        var incomplete: [String] = []
        var damage: [String] = []
        var lost: [LostRange] = []
        var lostFiles: [LostFiles] = []
        var seconds: Double = 0
    }

    func run() throws {
        var state = RestoreExecutor.DiskState.untouched
        var goesOn = true
        let untouched = TargetState()
        if !dryRun { leave(untouched) }
        let keys = KeyRing(keyOptions, Console.events)
        try CommandRun.run(json: json, diskState: { state.rawValue }) {
            do { return try restore(keys, &state, &goesOn) } catch {
                var failure = JobFailure(error)
                if !dryRun { failure = failure.followed(by: sentence(state, failure.status, goesOn: goesOn)) }
                throw advised(failure, error, keys)
            }
        }
    }

    /// Says what is left behind where the command gives up on a call.
    private func leave(_ state: TargetState) {
        CommandRun.leaves(
            .init(
                sentences: { [self] in
                    guard state.isCommitting else { return sentence(state.value, $0, goesOn: true) }
                    return
                        "\(disk) has all data, and its partition table was being written: it may be whole, or boot nothing. The same "
                        + "command makes sure (faster with --delta)."
                },
                diskState: { state.value.rawValue }))
    }

    /// Says what `--salvage` could do, or could not.
    private func advised(_ failure: JobFailure, _ error: any Error, _ keys: KeyRing) -> JobFailure {
        // Of another image than the one that was asked for, nothing is wanted.
        guard expectImageID == nil, SalvageAdvice.isDamage(error) else { return failure }
        switch (salvage, SalvageAdvice.isUseful(error, image: image, keys)) {
        case (false, true):
            return failure.followed(
                by: "`reforge restore --salvage` brings back the rest, with zeros in place of what is lost.")
        case (true, false):
            return failure.followed(
                by: "--salvage needs the header and the maps of an image, or the manifest of a snapshot.")
        default: return failure
        }
    }

    /// What state the disk is in, and how to go on.
    private func sentence(_ state: RestoreExecutor.DiskState, _ status: ExitStatus, goesOn: Bool) -> String {
        if let only, state == .partial {
            return
                "Partition \(into ?? only) of \(disk) is partly written, and holds no filesystem; all others are as they were. The same command does it anew."
        }
        return switch state {
        case .untouched: "Nothing was written to \(disk)."
        case .partial where status == .badImage:
            "\(disk) is partly written, has no partition table and boots nothing; with a whole image, the same command goes on."
        case .partial where !goesOn:
            "\(disk) is partly written and boots nothing. The same command would end the same: restore with other sizes (--partition N=SIZE) or onto a larger disk."
        case .partial: "\(disk) is partly written and boots nothing; run the same command to go on."
        case .complete: "All data on \(disk) is complete."
        case .salvaged: "\(disk) has its partition table, and all data that the image still holds."
        }
    }

    private func restore(
        _ keys: KeyRing, _ state: inout RestoreExecutor.DiskState, _ goesOn: inout Bool
    ) throws -> ExitStatus {
        let start = SystemFacts.monotonicSeconds()
        // Before what IMAGE is: of a swapped command line, this says what is wrong.
        try TargetGuard.refuse(try? KnownImage.identify(fileAt: FilePath(disk)), at: disk)
        let input = try OpenedImage.open(image, keys, salvages: salvage)
        try keys.refuseUnused(image)
        // All of a snapshot's lists must be readable and all of its chunks known before a disk is given up for it.
        if input.snapshot != nil, !salvage {
            try again(input, keys, .restore).reading { lists in
                while try lists.nextRecord() != nil {
                    if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
                }
            }
        }
        if let expectImageID, let id = input.ending?.id.description, !id.hasPrefix(expectImageID.lowercased()) {
            throw JobFailure(
                .badImage, "\(image) has the id \(id), not \(expectImageID): it is another image than asked for")
        }
        let stream = input.reader
        guard let (written, target) = try write(input, keys, &state, &goesOn) else { return .done }
        var report = written
        switch bootRepairChoice(stream.header.manifest) {
        case .done:
            repairBoot(&report, target, capturedDiskName: stream.header.manifest.disk.kernelName)
        case .leftOut:
            Console.message(
                "boot repair was left out. Where \(disk) does not start: `reforge boot-repair \(disk)`, best on the machine that "
                    + "it is for, from the Reforge medium")
        case .notNeeded: break
        }
        report.seconds = SystemFacts.monotonicSeconds() - start
        return try show(report)
    }

    /// Opens once more what is restored, to read all of it beforehand.
    private func again(
        _ input: OpenedImage, _ keys: KeyRing, _ operation: RepositoryOperation
    ) throws -> OpenedImage {
        // The very snapshot that is restored: what `latest` means may change meanwhile.
        let exact = input.snapshot.flatMap { snapshot in input.path.map { "\($0)@\(snapshot.info.id)" } } ?? image
        let again = try OpenedImage.open(exact, keys, operation: operation, salvages: salvage)
        guard again.reader.header == input.reader.header else {
            throw JobFailure(.badImage, "\(image) changed while it was looked at")
        }
        return again
    }

    /// Plans, asks, and writes. The target is held from the survey to the last write. A device is let go at the end, as boot repair
    /// mounts what was restored; a file is returned, still claimed.
    /// - Returns: `nil` where only the plan was asked for.
    private func write(
        _ input: OpenedImage, _ keys: KeyRing, _ state: inout RestoreExecutor.DiskState, _ goesOn: inout Bool
    ) throws -> (Report, OpenedDisk?)? {
        let target = try OpenedDisk(disk, dryRun ? .readOnly : .exclusiveWrite, sectorSize: sectorSize?.rawValue)
        if let expectDiskSequence, target.device.diskSequence != expectDiskSequence {
            throw JobFailure(
                .refused,
                "\(disk) is another disk than the one that was chosen (sequence number "
                    + "\(target.device.diskSequence.map(String.init) ?? "unknown"), not \(expectDiskSequence))")
        }
        try TargetGuard.refuseDanger(target, image: input.path, isTrial: dryRun, Console.events)
        try target.claimTarget(isTrial: dryRun)
        let header = input.reader.header
        var plan = try makePlan(header, target)
        plan.warnings += header.manifest.unreadableTexts(input.ending?.lateFacts.unreadable ?? [])
        let luksKeyFiles = try luksOptions.keys.keyFiles()
        try refuseObstacles(to: plan)
        try plan.checkTable(header)
        try tryKeys(luksKeyFiles, on: &plan, input, keys)
        let unfinished = plan.only == nil ? try RestoreExecutor.unfinished(on: target.device, plan) : nil
        let (stream, survey) = try salvaging(input, keys)
        let foreseen = plan.lostRanges(survey?.losses ?? [], header)
        let text = Self.text(
            plan, header.manifest, isSnapshot: input.snapshot != nil, bootRepair: bootRepairChoice(header.manifest),
            lost: foreseen)
        let obstacle = plan.shrinks.lazy.filter { shrink in foreseen.contains { $0.partition == shrink.number } }
            .compactMap(\.obstacleWithLosses).first
        if let obstacle { throw JobFailure(.refused, obstacle) }
        if dryRun {
            let report = Report(
                dryRun: true, image: image, imageID: input.ending?.id.description, plan: plan,
                diskState: .untouched,
                warnings: plan.warnings, damage: survey?.findings ?? [], lost: foreseen)
            if json {
                try Console.json(report)
            } else {
                try Console.result(text)
                if let unfinished { Console.message(unfinished.description) }
            }
            if stream.salvage != nil, let survey {
                Console.message(
                    "note: --confirm-salvage \(survey.code(imageUUID: header.manifest.imageUUID)) confirms these losses where no "
                        + "terminal can be asked")
            }
            return nil
        }
        Console.message(text)
        if let unfinished { Console.message(unfinished.description) }
        if verifyFirst {
            let outcome = try VerifyCommand.verify(try again(input, keys, .verify))
            Console.message("\(image) is whole: \(outcome.chunkCount) chunks")
        }
        if let salvage = stream.salvage {
            try confirmLosses((survey ?? salvage).code(imageUUID: header.manifest.imageUUID), foreseen)
        }
        try confirm(target, plan)
        var room: RestoreScratch?
        if plan.scratchRoom != nil {
            let folder = try RestoreScratch.folder(
                scratch.map { FilePath($0) }, image: input.path, isEncrypted: stream.coding.isEncrypted)
            room = try RestoreScratch(in: folder, for: plan, chunkByteCount: header.manifest.chunkByteCount)
        }
        try TargetGuard.checkIdentity(target)
        let progress = Progress()
        let display = ProgressDisplay(progress)
        let executor = RestoreExecutor(
            plan, target: target.device, targetPath: target.device.path,
            options: .init(verify: verify, discard: discard, delta: delta, luksKeyFiles: luksKeyFiles, jobID: jobID),
            progress: progress, expectedImageID: expectImageID, scratch: room)
        leave(executor.stateNow)
        defer {
            display.end()
            state = executor.state
            goesOn = executor.goesOn
        }
        let outcome = try executor.run(stream)
        // Not an error where the kernel does not take the new table: boot repair reaches volumes by their place.
        _ = target.device.rereadPartitionTable()
        if !outcome.lost.isEmpty { progress.show("look for the files that lost contents", done: 0, total: 0) }
        let report = Report(
            dryRun: false, image: image, imageID: stream.ending?.id.description, plan: plan,
            diskState: executor.state,
            writtenByteCount: outcome.writtenByteCount, resumedFrom: outcome.resumedFrom, warnings: outcome.warnings,
            incomplete: outcome.failedGrowths, damage: stream.salvage?.findings ?? [], lost: outcome.lost,
            lostFiles: LostFiles.find(outcome.lost, plan, header, on: target.device.path))
        return (report, target.device.isDevice ? nil : target)
    }

    /// With `--salvage`, reads the whole image for what is lost, so that the plan can say it, where it can be read twice.
    /// - Returns: what is restored from, and what was found lost.
    private func salvaging(_ input: OpenedImage, _ keys: KeyRing) throws -> (any ImageReader, Salvage?) {
        guard salvage else { return (input.reader, nil) }
        guard image != "-" else {
            Console.message("note: standard input is read only once: what is lost of it is known only at the end")
            return (SalvageReader(input.reader, Salvage()), nil)
        }
        let survey = try again(input, keys, .verify).losses()
        guard !survey.isWhole else {
            Console.message("\(image) is whole: there is nothing to salvage, and it is restored as usual")
            return (input.reader, survey)
        }
        // What could be read a moment ago must not be lost now: an unplugged drive is no damaged image.
        let allowed = Salvage(only: survey, byteCount: input.reader.header.manifest.geometry.byteCount)
        return (SalvageReader(input.reader, allowed), survey)
    }

    /// Has the losses confirmed, by a person even with `--yes`.
    /// - Parameter code: what names them; of standard input, which is read only once, the image alone.
    private func confirmLosses(_ code: String, _ lost: [LostRange]) throws {
        if let confirmSalvage {
            guard confirmSalvage.lowercased() == code else {
                throw JobFailure(
                    .refused,
                    "--confirm-salvage \(confirmSalvage) names other losses, or those of another image. Where what is lost of \(image) "
                        + "now is to be taken, as said above: --confirm-salvage \(code)")
            }
            return
        }
        let amount =
            image == "-" ? "What is lost of it" : ByteText.exact(lost.reduce(0) { $0 + $1.captured.byteCount })
        let question =
            "\(image) is damaged: \(amount) will be zeros on \(disk).\nType salvage to restore the rest: "
        let canAsk = image == "-" || SystemFacts.isTerminal(.standardInput)
        guard canAsk, Console.ask(question, useTerminal: image == "-") == "salvage" else {
            throw JobFailure(
                Interruption.isRequested ? .interrupted : .refused,
                "the losses were not confirmed: type salvage on a terminal, or add --confirm-salvage \(code)")
        }
    }

    private func makePlan(_ header: ImageHeader, _ target: OpenedDisk) throws -> RestorePlan {
        guard let only else {
            return try RestorePlanner.plan(
                header, onto: target.identity, geometry: target.device.geometry,
                request: try LayoutRequest(policy: layout, parsing: partition),
                obstacles: obstacles(), mustBoot: bootRepair != false, trustsUnknown: trustUnknown)
        }
        let table = try PartitionTableReader.read(
            target.device, secondOpinion: SecondOpinion(descriptor: target.device.fileDescriptor.rawValue))
        guard !table.partitions.isEmpty else {
            throw JobFailure(
                .refused, "\(disk) has no partition table with partitions: --only needs one that exists")
        }
        return try RestorePlanner.plan(
            only: only, into: into, of: header, onto: target.identity, geometry: target.device.geometry,
            existing: table, policy: layout, obstacles: obstacles())
    }

    /// What of resizing cannot be done on this machine, and with what was given.
    private func obstacles() -> ResizeObstacles {
        ResizeObstacles(
            shrink: CompositeDevice.obstacle(),
            encrypted: luksOptions.luksKeyFile.isEmpty
                ? "LUKS is made smaller only with its key (--luks-key-file)" : OpenedLUKS.obstacle(),
            volumeGroup: VolumeGroupResizer.obstacle(to:))
    }

    /// What stands in the way of making filesystems smaller on this machine.
    private func refuseObstacles(to plan: RestorePlan) throws {
        for shrink in plan.shrinks {
            var obstacle = shrink.shrinking.lazy.compactMap(FilesystemResizer.toolObstacle(toShrink:)).first
            if shrink.needsComposite,
                let twin = AttachedTwins.nodes(of: shrink.filesystem, besides: plan.target.kernelName).first
            {
                obstacle =
                    "\(twin) holds a copy of the same \(shrink.filesystem.kindName) (UUID \(shrink.filesystem.uuid ?? "")): "
                    + "detach that disk first, so that nothing takes one for the other"
            }
            if let obstacle {
                throw JobFailure(
                    .refused, "partition \(shrink.number) would have to be made smaller, and \(obstacle)")
            }
        }
        if !luksOptions.luksKeyFile.isEmpty, !plan.encryptedGrowths.isEmpty, let obstacle = OpenedLUKS.obstacle() {
            throw JobFailure(
                .refused,
                "LUKS cannot be opened here: \(obstacle). Without --luks-key-file it is restored all the same, and what is inside keeps its size"
            )
        }
    }

    /// Tries the keys of LUKS volumes on what was captured, where that can be read twice: a wrong one must not show only
    /// when the target is overwritten.
    private func tryKeys(
        _ keyFiles: [FilePath], on plan: inout RestorePlan, _ input: OpenedImage, _ keys: KeyRing
    ) throws {
        let numbers = plan.encryptedNumbers
        var locked = keyFiles.isEmpty ? numbers : []
        if !keyFiles.isEmpty, !numbers.isEmpty, image != "-" {
            locked = try again(input, keys, .restore).reading { [plan] reader in
                try KeyTrial.locked(
                    plan, in: salvage ? SalvageReader(reader, Salvage()) : reader, keyFiles: keyFiles)
            }
            let needed = plan.shrinks.first { $0.filesystem.kind == .luks && locked.contains($0.number) }?.number
            if let needed {
                throw JobFailure(
                    .refused,
                    "none of the given keys (--luks-key-file) opens the LUKS volume of partition \(needed), which is to be made smaller"
                )
            }
            guard locked.count < numbers.count else {
                throw JobFailure(
                    .refused,
                    "none of the given keys (--luks-key-file) opens a LUKS volume that gets a larger place: with the right one what is "
                        + "inside grows, without any it keeps its size")
            }
        }
        plan.leaveLocked(locked)
    }

    /// What becomes of the restored system's boot chain.
    enum BootRepairChoice {
        case done
        /// Outside the recovery environment programs of a restored system run only where that was asked for.
        case leftOut
        /// Not wanted, or nothing there that started a machine.
        case notNeeded
    }

    /// What did not boot before is not expected to boot now: a data disk has nothing to repair.
    private func bootRepairChoice(_ manifest: Manifest) -> BootRepairChoice {
        guard bootRepair != false, only == nil,
            manifest.boot.biosBootCode != nil || !manifest.boot.efiLoaders.isEmpty
        else { return .notNeeded }
        return bootRepair ?? SystemFacts.isRecoveryEnvironment ? .done : .leftOut
    }

    /// Makes the restored system start here. A failure leaves the data complete: it is reported, with how to finish.
    private func repairBoot(_ report: inout Report, _ target: OpenedDisk?, capturedDiskName: String?) {
        do {
            let opened = try target ?? OpenedDisk(disk, .readOnly, sectorSize: sectorSize?.rawValue)
            // A device was let go for a moment: it must be the same one, and nobody else's by now.
            guard opened.identity == report.plan.target else {
                throw JobFailure(.refused, "\(disk) is another disk than the one that was restored")
            }
            try TargetGuard.refuseDanger(opened, image: nil, Console.events)
            let options = BootRepairOptions(capturedDiskName: capturedDiskName)
            let plan = BootRepair.plan(try BootRepair.survey(disk: opened.device, options: options), options: options)
            Console.message(plan.description)
            let outcome = try BootRepair.execute(plan, disk: opened.device) { Console.message($0) }
            report.bootRepair = .init(changed: outcome.changed, pending: outcome.pending)
            report.warnings += outcome.warnings
            if let pending = outcome.pending { report.incomplete.append("boot repair: \(pending)") }
        } catch {
            let reason = (error as? JobFailure)?.message ?? "\(error)"
            report.incomplete.append("boot repair: \(reason); run: reforge boot-repair \(disk)")
        }
    }

    private func confirm(_ target: OpenedDisk, _ plan: RestorePlan) throws {
        if yes { return }
        guard image == "-" || SystemFacts.isTerminal(.standardInput) else {
            throw JobFailure(
                .refused, "not on a terminal, so nobody can confirm: look at the plan with --dry-run, then say --yes")
        }
        let wanted = target.identity.confirmationText
        let question =
            "Everything on \(plan.only.map { "partition \($0.existing) of " } ?? "")\(disk) (\(target.identity.model ?? "no model"), \(ByteText.rounded(target.device.byteCount))) will be lost.\n"
            + "Type \(wanted) to go on: "
        guard let answer = Console.ask(question, useTerminal: image == "-"),
            [wanted, target.identity.kernelName, disk].contains(answer)
        else {
            throw JobFailure(
                Interruption.isRequested ? JobFailure.interruption : .refused,
                "not confirmed: the answer was not \(wanted)")
        }
    }

    private func show(_ report: Report) throws -> ExitStatus {
        if let position = report.resumedFrom {
            Console.message("went on at \(ByteText.rounded(position)) of an interrupted restore of this image")
        }
        if json {
            try Console.json(report)
        } else {
            for warning in report.warnings { Console.message("warning: \(warning)") }
            for problem in report.incomplete { Console.message("not finished: \(problem)") }
            for finding in report.damage { Console.message("damage: \(finding)") }
            for line in lossLines(report) { Console.message(line) }
            for change in report.bootRepair?.changed ?? [] { Console.message("boot repair: \(change)") }
            try Console.result(
                "\(delta ? "wrote the \(ByteText.rounded(report.writtenByteCount)) that differed" : "restored \(ByteText.rounded(report.writtenByteCount))") onto \(disk) in "
                    + "\(ProgressDisplay.duration(Int(report.seconds.rounded()))) (\(ByteText.rate(report.writtenByteCount, seconds: report.seconds)))\(verify ? ", read back and compared" : "")"
            )
        }
        if report.diskState == .salvaged {
            let amount = ByteText.exact(report.lost.reduce(0) { $0 + $1.captured.byteCount })
            let place =
                only.map { "partition \(into ?? $0) of \(disk) has" } ?? "\(disk) has its partition table and"
            Console.message(
                "reforge: \(image) is damaged: \(place) all data that the image still holds; "
                    + "\(amount) are lost, and are zeros. Check its filesystems before they are used")
            return .badImage
        }
        return report.incomplete.isEmpty ? .done : .incomplete
    }

    /// What is lost: sums, ranges, and files.
    private func lossLines(_ report: Report) -> [String] {
        var lines: [String] = []
        let mostRanges = 10
        for number in report.lost.reduce(into: [Int?](), { if $0.last != $1.partition { $0.append($1.partition) } }) {
            let lost = report.lost.filter { $0.partition == number }
            let name = number.map { "partition \($0)" } ?? "outside every partition"
            let sum = lost.reduce(0) { $0 + $1.captured.byteCount }
            lines.append("lost: \(name): \(ByteText.exact(sum)) in \(lost.count) range\(lost.count == 1 ? "" : "s")")
            for range in lost.prefix(mostRanges) {
                lines.append(
                    range.target.map { "  bytes \($0.lowerBound) to \($0.upperBound) of \(disk)" }
                        ?? "  bytes \(range.captured.lowerBound) to \(range.captured.upperBound) of the captured disk")
            }
            if lost.count > mostRanges { lines.append("  and \(lost.count - mostRanges) more") }
        }
        for found in report.lostFiles {
            let name = found.partition.map { "partition \($0)" } ?? disk
            if !found.files.isEmpty { lines.append("files of \(name) that lost contents:") }
            // Names of a disk that anybody may have written.
            lines += found.files.map { "  \($0.printable)" }
            if found.moreFiles > 0 { lines.append("  and \(found.moreFiles) more") }
            lines += found.notes.map { "files of \(name): \($0.printable)" }
        }
        return lines
    }

    /// The plan for a person.
    static func text(
        _ plan: RestorePlan, _ manifest: Manifest, isSnapshot: Bool, bootRepair: BootRepairChoice,
        lost: [LostRange] = []
    ) -> String {
        let target = plan.target
        var lines = [
            "\(isSnapshot ? "Snapshot" : "Image") of \(manifest.disk.path) (\(manifest.disk.model ?? "no model"), \(ByteText.rounded(manifest.geometry.byteCount))), "
                + "made \(manifest.started)",
            "Target \(target.path): \(target.model ?? "no model"), serial \(target.serial ?? "none"), "
                + "\(ByteText.rounded(plan.geometry.byteCount)), attached by \(target.transport)",
        ]
        let rows = plan.items.flatMap { item in
            [
                [
                    item.number.map(String.init) ?? "-", item.name, item.type, item.filesystem,
                    place(item.from.lowerBound), place(item.to.lowerBound), ByteText.rounded(item.from.byteCount),
                    ByteText.rounded(item.to.byteCount), ByteText.rounded(item.usedByteCount), item.action,
                ]
            ] + (item.volumes ?? []).map(volumeRow)
        }
        lines += TextTable.lines(
            ["#", "NAME", "TYPE", "HOLDS", "FROM", "TO", "SIZE THEN", "SIZE NOW", "WRITTEN", "WHAT HAPPENS"], rows)
        if let room = plan.scratchRoom {
            lines.append(
                "making filesystems fit takes a scratch of up to \(ByteText.rounded(room)) for a while (--scratch)")
        }
        lines += plan.warnings.map { "note: \($0)" }
        lines += manifest.lostTexts(lost.map(\.captured)).map { "lost: \($0)" }
        for growth in plan.growths where lost.contains(where: { $0.partition == growth.number }) {
            lines.append(
                "note: \(growth.number.map { "partition \($0)" } ?? "the filesystem") is not grown, as parts of it are lost"
            )
        }
        switch bootRepair {
        case .done:
            lines.append(
                "then: boot repair for this machine; its own plan is shown once the system is there (--no-boot-repair leaves it)"
            )
        case .leftOut:
            lines.append(
                "then: no boot repair, which would run programs of the restored system here (--boot-repair does)")
        case .notNeeded: break
        }
        return lines.joined(separator: "\n")
    }

    /// A logical volume under the partition that it lies in.
    private static func volumeRow(_ volume: RestorePlan.Volume) -> [String] {
        let change = volume.toByteCount > volume.fromByteCount ? "grow" : "shrink"
        return [
            "", volume.name, "logical volume", volume.filesystem, "", "", ByteText.rounded(volume.fromByteCount),
            ByteText.rounded(volume.toByteCount), "",
            volume.toByteCount == volume.fromByteCount ? "keep its size" : change,
        ]
    }

    private static func place(_ offset: UInt64) -> String { ByteText.rounded(offset) }
}

extension LayoutPolicy: ExpressibleByArgument {}
