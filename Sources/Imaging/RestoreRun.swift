// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem

/// One run of a restore: its steps in order, and their results so far.
final class RestoreRun {
    private let setup: RestoreSetup
    private let image: any ImageReader
    /// Resizes filesystems; `nil` in tests on memory.
    private let resizer: RestoreResizer?
    private let commit: RestoreCommit
    private let olderLives: OlderLifeCure
    private var target: UnfinishedTarget
    private var changes = TargetChanges()
    private var outcome: RestoreExecutor.Outcome
    /// The hashes to compare the target with; `nil` without `--verify`.
    private var written: WrittenChunks?
    /// The losses of the image, or of the disk that is cloned.
    private var losses: [Salvage.Loss] = []
    private var isCommitted = false

    private var plan: RestorePlan { setup.plan }
    private var writer: TargetWriter { setup.writer }

    /// Prepares the run, and reads the target's journal and contents; nothing is written.
    init(_ setup: RestoreSetup, _ image: any ImageReader) throws {
        let (plan, manifest) = (setup.plan, image.header.manifest)
        resizer = setup.targetPath.map { path in
            RestoreResizer(
                plan: plan, target: path, capturedSectorSize: manifest.geometry.logicalSectorSize,
                scratch: setup.scratch, keyFiles: setup.options.luksKeyFiles, cancellation: setup.cancellation,
                log: setup.log)
        }
        try ChunkBufferPool.requireMemory(workers: setup.workers, chunkByteCount: manifest.chunkByteCount)
        commit = try RestoreCommit(setup, manifest)
        let target = try UnfinishedTarget(plan, setup.writer, capturedByteCount: manifest.geometry.byteCount)
        if setup.options.delta || target.resumedFrom != nil { setup.writer.keepOriginals() }
        olderLives = OlderLifeCure(
            image.header, plan, setup.writer, setup.progress, setup.cancellation, log: setup.log)
        outcome = RestoreExecutor.Outcome(
            writtenByteCount: 0, warnings: [], failedGrowths: [], resumedFrom: target.resumedFrom)
        self.setup = setup
        self.image = image
        self.target = target
    }

    /// Executes the steps of the plan.
    func run() throws -> RestoreExecutor.Outcome {
        // If the end was requested during preparation, the disk must stay untouched.
        try setup.cancellation.check()
        setup.state.value = .partial
        for step in plan.steps(image.header, setup.options, isResumed: target.resumedFrom != nil) {
            do { try perform(step) } catch {
                if isCommitted { try takeBack() }
                throw error
            }
        }
        return outcome
    }

    private func perform(_ step: RestoreStep) throws {
        switch step {
        case .clear:
            try target.invalidate()
            // Also before trimming: no older journal may refer to trimmed data.
            try target.note()
        case .trim:
            try target.trim(&outcome.warnings)
            try target.note()
        case .writeData: try writeData()
        case .clearEdges:
            try TargetEdges(plan: plan, header: image.header, writer: writer).clear()
            try writer.settle(setup.progress)
        case .compareData:
            try written?.compare(
                with: writer, losses: losses, progress: setup.progress, cancellation: setup.cancellation)
        case .moveBootSectors:
            try HiddenSectors.follow(plan, of: image.header.manifest, on: writer, log: setup.log)
        case .cureOlderLives: try cureOlderLives()
        case .noteData:
            try writer.settle(setup.progress)
            // A run that is stopped after this resumes, too: chunks that a growth changed differ from the image, and
            // are written again.
            try target.noteAllData()
        case .remake(let number): try remake(try planned(plan.remakes.first { $0.number == number }, step))
        case .shrink(let number): try shrink(try planned(plan.shrinks.first { $0.number == number }, step))
        case .makeESP: try makeESP(try planned(plan.conversion?.added, step))
        case .grow(let number): try grow(try planned(plan.growths.first { $0.number == number }, step))
        case .commit: try writeHeldBack()
        case .compareEnds: try commit.verify()
        }
    }

    /// The part of the plan for a step that was derived from the plan.
    private func planned<Part>(_ part: Part?, _ step: RestoreStep) throws(ImagingError) -> Part {
        guard let part else { throw .failed("the plan does not say how to \(step)") }
        return part
    }

    // MARK: data

    private func writeData() throws {
        let pipeline = RestorePipeline(setup, image, resumedFrom: target.resumedFrom)
        let done = try pipeline.run(noting: &target)
        written = done.written
        outcome.writtenByteCount = done.writtenByteCount
        outcome.warnings += done.warnings
        losses = (image.salvage?.losses ?? []) + image.unreadLosses
        outcome.lost = plan.lostRanges(losses, image.header)
    }

    private func cureOlderLives() throws {
        let regions = image.header.manifest.regions
        let holed = regions.indices.filter { index in losses.contains { $0.range.overlaps(regions[index].range) } }
        try olderLives.run(
            unixSeconds: SystemFacts.unixSeconds(), checksFirst: setup.options.delta, holed: Set(holed), &changes,
            &outcome.warnings)
    }

    // MARK: resize

    private var fitter: FilesystemFitter {
        FilesystemFitter(setup, resizer, holed: Set(outcome.lost.map(\.partition)))
    }

    private func remake(_ remake: RestorePlan.Remake) throws {
        try changes.change("the FAT of partition \(remake.number)") {
            try fitter.make(remake, &outcome)
            return .passed
        }
    }

    private func shrink(_ shrink: RestorePlan.Shrink) throws {
        try changes.change("the filesystem of partition \(shrink.number)") {
            try fitter.shrink(shrink, &outcome)
            return .passed
        }
    }

    private func makeESP(_ partition: Partition) throws {
        try changes.change("the FAT of partition \(partition.number)") {
            try ESPMaker(partition, writer: writer).run { try writer.settle(setup.progress) }
            setup.log("the EFI system partition \(partition.number) was made")
            return .passed
        }
    }

    private func grow(_ growth: RestorePlan.Growth) throws {
        // Not interruptible after the commit: the target would boot nothing again.
        if !isCommitted { try setup.cancellation.check() }
        try fitter.grow(growth, &changes, &outcome)
    }

    // MARK: commit

    private func writeHeldBack() throws {
        try setup.cancellation.check()
        try commit.write(try changes.proved(), &outcome.warnings)
        isCommitted = true
        let isWhole = (image.salvage?.isWhole ?? true) && outcome.lost.isEmpty
        setup.state.value = isWhole ? .complete : .salvaged
    }

    /// Makes a committed target boot nothing; the same command then compares and repairs its data.
    private func takeBack() throws(BlockIOError) {
        setup.state.value = .partial
        try target.invalidate()
        try target.note()
    }
}
