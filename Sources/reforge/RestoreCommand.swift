// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import FilesystemResize
import Filesystems
import ImageStore
import Imaging
import LinuxSystem
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
              ssh store cat laptop.img.zst | reforge restore - /dev/nvme0n1 --yes
              truncate -s 64G disk.raw && reforge restore laptop.img.zst disk.raw --yes

            JSON fields: schema (1), dryRun, image, imageID, plan {imageUUID, target, geometry, request {policy, wishes}, items [{number, name, \
            type, filesystem, label, from, to, usedByteCount, action, volumes \
            [{name, filesystem, fromByteCount, toByteCount}]}], regionTargets, placements, only, tableIsUnchanged, growths, \
            shrinks, remakes, warnings}, diskState (untouched, partial, complete), writtenByteCount, resumedFrom, bootRepair {changed, pending}, \
            warnings, incomplete, seconds.
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
        var seconds: Double = 0
    }

    func run() throws {
        var state = RestoreExecutor.DiskState.untouched
        var goesOn = true
        let untouched = TargetState()
        if !dryRun { leave(untouched) }
        try CommandRun.run(json: json, diskState: { state.rawValue }) {
            do { return try restore(&state, &goesOn) } catch {
                let failure = CommandFailure(error)
                guard !dryRun else { throw failure }
                throw failure.followed(by: sentence(state, failure.status, goesOn: goesOn))
            }
        }
    }

    /// Says what is left behind where the command gives up on a call.
    private func leave(_ state: TargetState) {
        CommandRun.leaves(
            .init(
                sentences: { [self] in sentence(state.value, $0, goesOn: true) },
                diskState: { state.value.rawValue }))
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
        }
    }

    private func restore(_ state: inout RestoreExecutor.DiskState, _ goesOn: inout Bool) throws -> ExitStatus {
        let start = SystemFacts.monotonicSeconds()
        // Before what IMAGE is: of a swapped command line, this says what is wrong.
        try TargetSafety.refuse(try? KnownImage.identify(fileAt: FilePath(disk)), at: disk)
        let keys = KeyRing(keyOptions)
        let input = try CaptureInput.open(image, keys)
        try keys.refuseUnused(image)
        // All of a snapshot's lists must be readable and all of its chunks known before a disk is given up for it.
        if input.snapshot != nil {
            try again(input, keys, .restore).reading { lists in
                while try lists.nextRecord() != nil {
                    if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
                }
            }
        }
        if let expectImageID, let id = input.ending?.id.description, !id.hasPrefix(expectImageID.lowercased()) {
            throw CommandFailure(
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
        _ input: CaptureInput, _ keys: KeyRing, _ operation: RepositoryOperation
    ) throws -> CaptureInput {
        // The very snapshot that is restored: what `latest` means may change meanwhile.
        let exact = input.snapshot.flatMap { snapshot in input.path.map { "\($0)@\(snapshot.info.id)" } } ?? image
        let again = try CaptureInput.open(exact, keys, operation: operation)
        guard again.reader.header == input.reader.header else {
            throw CommandFailure(.badImage, "\(image) changed while it was looked at")
        }
        return again
    }

    /// Plans, asks, and writes. The target is held from the survey to the last write. A device is let go at the end, as boot repair
    /// mounts what was restored; a file is returned, still claimed.
    /// - Returns: `nil` where only the plan was asked for.
    private func write(
        _ input: CaptureInput, _ keys: KeyRing, _ state: inout RestoreExecutor.DiskState, _ goesOn: inout Bool
    ) throws -> (Report, OpenedDisk?)? {
        let stream = input.reader
        let target = try OpenedDisk(disk, dryRun ? .readOnly : .exclusiveWrite, sectorSize: sectorSize)
        try TargetSafety.refuseDanger(target, image: input.path)
        try target.claimTarget(isTrial: dryRun)
        var plan = try makePlan(stream.header, target)
        plan.warnings += stream.header.manifest.unreadableTexts(input.ending?.lateFacts.unreadable ?? [])
        let luksKeyFiles = try luksOptions.keyFiles()
        try refuseObstacles(to: plan)
        try plan.checkTable(stream.header)
        try tryKeys(luksKeyFiles, on: &plan, input, keys)
        let unfinished = plan.only == nil ? try RestoreExecutor.unfinished(on: target.device, plan) : nil
        if dryRun {
            let report = Report(
                dryRun: true, image: image, imageID: input.ending?.id.description, plan: plan,
                diskState: .untouched,
                warnings: plan.warnings)
            if json {
                try Console.json(report)
            } else {
                try Console.result(
                    Self.text(
                        plan, stream.header.manifest, isSnapshot: input.snapshot != nil,
                        bootRepair: bootRepairChoice(stream.header.manifest)))
                if let unfinished { Console.message(unfinished.description) }
            }
            return nil
        }
        Console.message(
            Self.text(
                plan, stream.header.manifest, isSnapshot: input.snapshot != nil,
                bootRepair: bootRepairChoice(stream.header.manifest)))
        if let unfinished { Console.message(unfinished.description) }
        if verifyFirst {
            let outcome = try VerifyCommand.verify(try again(input, keys, .verify))
            Console.message("\(image) is whole: \(outcome.chunkCount) chunks")
        }
        try confirm(target, plan)
        var room: RestoreScratch?
        if plan.scratchRoom != nil {
            let folder = try RestoreScratch.folder(
                scratch.map { FilePath($0) }, image: input.path, isEncrypted: stream.coding.isEncrypted)
            room = try RestoreScratch(in: folder, for: plan, chunkByteCount: stream.header.manifest.chunkByteCount)
        }
        try TargetSafety.checkIdentity(target)
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
        let report = Report(
            dryRun: false, image: image, imageID: stream.ending?.id.description, plan: plan,
            diskState: executor.state,
            writtenByteCount: outcome.writtenByteCount, resumedFrom: outcome.resumedFrom, warnings: outcome.warnings,
            incomplete: outcome.failedGrowths)
        return (report, target.device.isDevice ? nil : target)
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
            throw CommandFailure(
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
                throw CommandFailure(
                    .refused, "partition \(shrink.number) would have to be made smaller, and \(obstacle)")
            }
        }
        if !luksOptions.luksKeyFile.isEmpty, !plan.encryptedGrowths.isEmpty, let obstacle = OpenedLUKS.obstacle() {
            throw CommandFailure(
                .refused,
                "LUKS cannot be opened here: \(obstacle). Without --luks-key-file it is restored all the same, and what is inside keeps its size"
            )
        }
    }

    /// Tries the keys of LUKS volumes on what was captured, where that can be read twice: a wrong one must not show only
    /// when the target is overwritten.
    private func tryKeys(
        _ keyFiles: [FilePath], on plan: inout RestorePlan, _ input: CaptureInput, _ keys: KeyRing
    ) throws {
        let numbers = plan.encryptedNumbers
        var locked = keyFiles.isEmpty ? numbers : []
        if !keyFiles.isEmpty, !numbers.isEmpty, image != "-" {
            locked = try again(input, keys, .restore).reading { [plan] reader in
                try KeyTrial.locked(plan, in: reader, keyFiles: keyFiles)
            }
            let needed = plan.shrinks.first { $0.filesystem.kind == .luks && locked.contains($0.number) }?.number
            if let needed {
                throw CommandFailure(
                    .refused,
                    "none of the given keys (--luks-key-file) opens the LUKS volume of partition \(needed), which is to be made smaller"
                )
            }
            guard locked.count < numbers.count else {
                throw CommandFailure(
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
            let opened = try target ?? OpenedDisk(disk, .readOnly, sectorSize: sectorSize)
            // A device was let go for a moment: it must be the same one, and nobody else's by now.
            guard opened.identity == report.plan.target else {
                throw CommandFailure(.refused, "\(disk) is another disk than the one that was restored")
            }
            try TargetSafety.refuseDanger(opened, image: nil)
            let options = BootRepairOptions(capturedDiskName: capturedDiskName)
            let plan = BootRepair.plan(try BootRepair.survey(disk: opened.device, options: options), options: options)
            Console.message(plan.description)
            let outcome = try BootRepair.execute(plan, disk: opened.device) { Console.message($0) }
            report.bootRepair = .init(changed: outcome.changed, pending: outcome.pending)
            report.warnings += outcome.warnings
            if let pending = outcome.pending { report.incomplete.append("boot repair: \(pending)") }
        } catch {
            let reason = (error as? CommandFailure)?.message ?? "\(error)"
            report.incomplete.append("boot repair: \(reason); run: reforge boot-repair \(disk)")
        }
    }

    private func confirm(_ target: OpenedDisk, _ plan: RestorePlan) throws {
        if yes { return }
        guard image == "-" || SystemFacts.isTerminal(.standardInput) else {
            throw CommandFailure(
                .refused, "not on a terminal, so nobody can confirm: look at the plan with --dry-run, then say --yes")
        }
        let wanted = target.identity.confirmationText
        let question =
            "Everything on \(plan.only.map { "partition \($0.existing) of " } ?? "")\(disk) (\(target.identity.model ?? "no model"), \(ByteText.rounded(target.device.byteCount))) will be lost.\n"
            + "Type \(wanted) to go on: "
        guard let answer = Console.ask(question, useTerminal: image == "-"),
            [wanted, target.identity.kernelName, disk].contains(answer)
        else {
            throw CommandFailure(
                Interruption.isRequested ? CommandFailure.interruption : .refused,
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
            for change in report.bootRepair?.changed ?? [] { Console.message("boot repair: \(change)") }
            try Console.result(
                "\(delta ? "wrote the \(ByteText.rounded(report.writtenByteCount)) that differed" : "restored \(ByteText.rounded(report.writtenByteCount))") onto \(disk) in "
                    + "\(ProgressDisplay.duration(Int(report.seconds.rounded()))) (\(ByteText.rate(report.writtenByteCount, seconds: report.seconds)))\(verify ? ", read back and compared" : "")"
            )
        }
        return report.incomplete.isEmpty ? .done : .incomplete
    }

    /// The plan for a person.
    static func text(
        _ plan: RestorePlan, _ manifest: Manifest, isSnapshot: Bool, bootRepair: BootRepairChoice
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

/// Why a disk must not be overwritten.
enum TargetSafety {
    /// Where the recovery environment names the disk that it booted from.
    static let mediumPath: FilePath = "/run/reforge/medium"

    /// Refuses a target that is in use, that holds the image, or that is the boot medium.
    static func refuseDanger(_ target: OpenedDisk, image: FilePath?) throws {
        let path = target.identity.path
        try refuse(target.knownImage, at: path)
        try target.waitForAbandonedWork()
        let uses = target.uses
        guard uses.isEmpty else {
            throw CommandFailure(
                .refused,
                "\(path) is in use: \(uses.map(\.description).joined(separator: "; ")). Unmount it, or stop what holds it, and try again"
            )
        }
        if let image, target.holds(image) {
            throw CommandFailure(.refused, "\(path) holds the image that is to be restored")
        }
        let directory = DiskDirectory()
        if let name = target.kernelName {
            let medium = (Files.text(mediumPath) ?? "").split(separator: "\n").map(String.init)
            guard !medium.contains(directory.wholeDisk(of: name)) else {
                throw CommandFailure(.refused, "\(path) is the medium that this system was booted from")
            }
        }
    }

    /// Refuses what is no disk, but an image or a part of a repository, most likely because of a swapped command line.
    static func refuse(_ known: KnownImage?, at path: String) throws {
        guard let known else { return }
        throw CommandFailure(
            .refused,
            "\(path) is \(known.name), not a disk: are IMAGE and DISK swapped? To lose it all the same, remove the file and make "
                + "a new one (truncate -s SIZE); on a device, clear its first MiB (dd if=/dev/zero of=DEVICE bs=1M count=1)"
        )
    }

    /// The same disk as was surveyed, right before the first write: names can be given to another disk in between.
    static func checkIdentity(_ target: OpenedDisk) throws {
        guard let kernelName = target.kernelName else { return }
        let now = DiskDirectory().identity(
            path: FilePath(target.identity.path), kernelName: kernelName, diskSequence: target.device.diskSequence)
        guard now == target.identity else {
            throw CommandFailure(.refused, "\(target.identity.path) is another disk than a moment ago")
        }
    }
}
