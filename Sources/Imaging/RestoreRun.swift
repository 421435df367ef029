// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem

/// One run of a restore: its effects in their order, and what they have shown so far.
final class RestoreRun {
    private let setup: RestoreSetup
    private let image: any ImageReader
    /// What changes lengths; `nil` in tests on memory.
    private let resizer: RestoreResizer?
    private let commit: RestoreCommit
    private let olderLives: OlderLifeCure
    private var target: UnfinishedTarget
    private var changes = TargetChanges()
    private var outcome: RestoreExecutor.Outcome
    /// What the target is compared with; `nil` where it is not.
    private var written: WrittenChunks?

    private var plan: RestorePlan { setup.plan }
    private var writer: TargetWriter { setup.writer }

    /// Makes ready, and reads what the target holds; nothing is written.
    init(_ setup: RestoreSetup, _ image: any ImageReader) throws {
        let (plan, manifest) = (setup.plan, image.header.manifest)
        resizer = setup.targetPath.map { path in
            RestoreResizer(
                plan: plan, target: path, capturedSectorSize: manifest.geometry.logicalSectorSize,
                scratch: setup.scratch, keyFiles: setup.options.luksKeyFiles, log: setup.log)
        }
        try ChunkBufferPool.requireMemory(workers: setup.workers, chunkByteCount: manifest.chunkByteCount)
        commit = try RestoreCommit(setup, manifest)
        let target = try UnfinishedTarget(plan, setup.writer, capturedByteCount: manifest.geometry.byteCount)
        if setup.options.delta || target.resumedFrom != nil { setup.writer.keepOriginals() }
        olderLives = OlderLifeCure(image.header, plan, setup.writer, setup.progress, log: setup.log)
        outcome = RestoreExecutor.Outcome(
            writtenByteCount: 0, warnings: plan.warnings, failedGrowths: [], resumedFrom: target.resumedFrom)
        self.setup = setup
        self.image = image
        self.target = target
    }

    /// Restores.
    func run() throws -> RestoreExecutor.Outcome {
        // An end that was asked for while this was prepared must not cost the disk.
        try endIfAskedFor()
        setup.state.value = .partial
        try clear()
        try writeData()
        try finishData()
        try fit()
        try endIfAskedFor()
        try commit.write(try changes.proved(), &outcome.warnings)
        setup.state.value = image.salvage?.isWhole ?? true ? .complete : .salvaged
        do { try finishCommitted() } catch {
            // It must not look whole; what is there is compared and mended by the same command.
            setup.state.value = .partial
            try target.invalidate()
            try target.note()
            throw error
        }
        return outcome
    }

    private func endIfAskedFor() throws(ImagingError) {
        if Interruption.isRequested { throw .interrupted(Interruption.name) }
    }

    private func clear() throws {
        try target.invalidate()
        // Also before trimming: no older journal may speak of what was trimmed.
        try target.note()
        if setup.options.discard, target.resumedFrom == nil {
            try target.trim(&outcome.warnings)
            try target.note()
        }
    }

    private func writeData() throws {
        let pipeline = RestorePipeline(setup, image, resumedFrom: target.resumedFrom)
        let done = try pipeline.run(noting: &target)
        written = done.written
        outcome.writtenByteCount = done.writtenByteCount
        outcome.warnings += done.warnings
        outcome.lost = plan.lostRanges(image.salvage?.losses ?? [], image.header)
    }

    /// Does what is left of the data once the image was read, and checks it.
    private func finishData() throws {
        let manifest = image.header.manifest
        let losses = image.salvage?.losses ?? []
        try TargetEdges(plan: plan, header: image.header, writer: writer).clear()
        try writer.settle(setup.progress)
        try written?.compare(with: writer, losses: losses, progress: setup.progress)
        try HiddenSectors.follow(plan, of: manifest, on: writer, log: setup.log)
        let holed = manifest.regions.indices.filter { index in
            losses.contains { $0.range.overlaps(manifest.regions[index].range) }
        }
        try olderLives.run(
            unixSeconds: SystemFacts.unixSeconds(), checksFirst: setup.options.delta, holed: Set(holed), &changes,
            &outcome.warnings)
        try writer.settle(setup.progress)
        // All data is there. Also a run that is stopped behind this goes on: what a growth changed in the restored
        // chunks differs from them, and is written again.
        try target.noteAllData()
    }

    private var fitter: FilesystemFitter {
        FilesystemFitter(setup, resizer, holed: Set(outcome.lost.map(\.partition)))
    }

    private func fit() throws {
        let fitter = self.fitter
        for remake in plan.remakes {
            try changes.change("the FAT of partition \(remake.number)") {
                try fitter.make(remake, &outcome)
                return .passed
            }
        }
        for shrink in plan.shrinks {
            try changes.change("the filesystem of partition \(shrink.number)") {
                try fitter.shrink(shrink, &outcome)
                return .passed
            }
        }
        for growth in plan.growths where !growth.isLate {
            try endIfAskedFor()
            try fitter.grow(growth, &changes, &outcome)
        }
    }

    /// What needs the table.
    private func finishCommitted() throws {
        if setup.options.verify { try commit.verify() }
        for growth in plan.growths where growth.isLate { try fitter.grow(growth, &changes, &outcome) }
    }
}
