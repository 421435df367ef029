// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskEditing
import DiskModel
import FilesystemResize
import Filesystems
import ImageModel
import LinuxSystem
import SystemPackage

/// Carries out a restore plan: data → resize → commit, so that a disk that was not finished never looks whole.
package final class RestoreExecutor {
    /// What a person asks of a restore beside its plan.
    package struct Options: Sendable {
        /// Whether everything is read back before filesystems are resized.
        package var verify: Bool
        /// Whether the target is trimmed first.
        package var discard: Bool
        /// Whether the target is read first, and only the chunks that differ are written.
        package var delta: Bool
        /// Files with keys of LUKS volumes, whose insides are to grow with them.
        package var luksKeyFiles: [FilePath]
        /// The job whose end is noted on the target; `nil` notes nothing.
        package var jobID: String?

        /// The usual ones: none.
        package init(
            verify: Bool = false, discard: Bool = false, delta: Bool = false, luksKeyFiles: [FilePath] = [],
            jobID: String? = nil
        ) {
            self.jobID = jobID
            self.luksKeyFiles = luksKeyFiles
            self.verify = verify
            self.discard = discard
            self.delta = delta
        }
    }

    /// What state a restore left the target in.
    package enum DiskState: String, Codable, Sendable {
        /// Nothing was written.
        case untouched
        /// Some was written; it boots nothing, and the same command goes on.
        case partial
        /// All data and the table are there.
        case complete
        /// The table is there, and all data that the damaged image still has; zeros stand for the rest.
        case salvaged
    }

    /// What a restore did.
    package struct Outcome: Sendable {
        /// Bytes of the image's content that were written.
        package var writtenByteCount: UInt64
        /// What a person should know.
        package var warnings: [String]
        /// Filesystems that could not be grown: why.
        package var failedGrowths: [String]
        /// What the image has lost, and is zeros on the target.
        package var lost: [LostRange] = []
        /// Where it went on from; `nil` where it started from the front.
        package var resumedFrom: UInt64?
    }

    /// An interrupted restore that a target's journal tells of.
    package struct Unfinished: Sendable, CustomStringConvertible {
        /// Whether it is the same plan, so that this restore goes on where that one was.
        package var isSame: Bool
        /// What it was of, and how far.
        package var restore: InterruptedRestore

        /// For a person.
        package var description: String {
            isSame
                ? "The target holds an interrupted restore of this image, \(restore.progress): it goes on, and what is there "
                    + "already is read and compared, not believed"
                : "The target holds an interrupted restore of another image or plan (image \(restore.imageUUID), "
                    + "\(restore.progress)): that one is given up, and this one starts at the front"
        }
    }

    /// What a target's journal tells; `nil` where it has none.
    package static func unfinished(on target: any BlockReader, _ plan: RestorePlan) throws -> Unfinished? {
        guard let found = RestoreJournal.read(target) else { return nil }
        let isSame = try found.imageUUID == plan.imageUUID && found.planDigest == plan.digest()
        return Unfinished(isSame: isSame, restore: InterruptedRestore(found))
    }

    private let plan: RestorePlan
    private let writer: TargetWriter
    private let target: any BlockWriter
    /// The node or file for other programs; `nil` in tests on memory.
    private let targetPath: FilePath?
    private let options: Options
    private let progress: Progress
    private let workers: Int
    private let expectedImageID: String?
    private let scratch: RestoreScratch?
    private let log: (String) -> Void
    /// What changes lengths; `nil` in tests on memory.
    private var resizer: RestoreResizer?
    /// Partitions of which a part is lost; `nil` stands for the bare disk.
    private var holed: Set<Int?> = []
    /// What state the target is in now, for any thread.
    package let stateNow = TargetState()
    /// What state the target is in now.
    package private(set) var state: DiskState {
        get { stateNow.value }
        set { stateNow.value = newValue }
    }
    /// Whether the same restore could go on where it stopped; not where a filesystem cannot be made as small as planned.
    package private(set) var goesOn = true

    /// Prepares a restore.
    /// - Parameters:
    ///   - target: opened for writing since the survey.
    ///   - scratch: for what of filesystems that are made smaller does not fit; needed where the plan has such.
    ///   - expectedImageID: the id (or the start of one, in hexadecimal) that the image must turn out to have.
    ///   - log: what a person may want to follow.
    package init(
        _ plan: RestorePlan, target: any BlockWriter, targetPath: FilePath?, options: Options = Options(),
        progress: Progress, workers: Int = SystemFacts.processorCount(), expectedImageID: String? = nil,
        scratch: RestoreScratch? = nil, log: @escaping (String) -> Void = { _ in }
    ) {
        self.plan = plan
        self.target = target
        self.targetPath = targetPath
        // A table's backup lies behind all partitions; a disk without one may have a superblock (md, ZFS) at its end.
        let area = plan.only?.range ?? 0..<target.byteCount
        writer = TargetWriter(
            target, area: area,
            tailStart: plan.placements == nil || plan.only != nil
                ? area.upperBound - min(area.byteCount, 1 << 20)
                : plan.placements?.map(\.to.upperBound).max() ?? target.byteCount,
            overhangs: plan.overhangs, scratch: scratch?.writer)
        self.scratch = scratch
        self.options = options
        self.progress = progress
        self.workers = max(1, workers)
        self.expectedImageID = expectedImageID
        self.log = log
    }

    /// Restores what `image` holds, from its first record to its end. What one with a `salvage` has lost becomes zeros.
    package func run(_ image: any ImageReader) throws(ImagingError) -> Outcome {
        do {
            let manifest = image.header.manifest
            guard image.header.maps.count == plan.regionTargets.count, manifest.imageUUID == plan.imageUUID else {
                throw ImagingError.failed("the plan was made for another image")
            }
            guard plan.shrinks.allSatisfy({ !$0.needsComposite }) || scratch != nil && targetPath != nil else {
                throw ImagingError.failed("there is no scratch for the filesystems that are made smaller")
            }
            guard plan.remakes.isEmpty || scratch != nil else {
                throw ImagingError.failed("there is no scratch for the FATs that are made anew")
            }
            resizer = targetPath.map { path in
                RestoreResizer(
                    plan: plan, target: path, capturedSectorSize: manifest.geometry.logicalSectorSize,
                    scratch: scratch, keyFiles: options.luksKeyFiles, log: log)
            }
            try ChunkBufferPool.requireMemory(workers: workers, chunkByteCount: manifest.chunkByteCount)
            // The table is made before anything is written: where that fails, nothing is lost.
            let table = try plan.makeTable(manifest)
            var outcome = Outcome(writtenByteCount: 0, warnings: plan.warnings, failedGrowths: [], resumedFrom: nil)
            var journal = RestoreJournal(
                sequence: 0, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: 0,
                diskByteCount: manifest.geometry.byteCount)
            // What is compared with must be the medium: a page that somebody cached before may be older than it.
            try (target as? BlockDevice)?.dropCache()
            if plan.only == nil, let found = RestoreJournal.read(target) {
                // Also behind the journal of another restore: ours must be the newer of the two slots.
                journal.sequence = found.sequence
                if found.imageUUID == journal.imageUUID, found.planDigest == journal.planDigest {
                    journal.position = found.position
                    outcome.resumedFrom = found.position > 0 ? found.position : nil
                }
            }
            if options.delta || outcome.resumedFrom != nil { writer.keepOriginals() }
            let olderLives = OlderLifeCure(image.header, plan, writer, progress, log: log)
            var changes = TargetChanges()
            // Whoever stopped it while it was prepared must not lose the disk.
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
            state = .partial
            try invalidate()
            // Also before trimming: no older journal may speak of what was trimmed.
            try write(&journal)
            if options.discard, outcome.resumedFrom == nil {
                try trim(&outcome)
                try write(&journal)
            }
            let written = try writeData(image, &journal, &outcome)
            let losses = image.salvage?.losses ?? []
            outcome.lost = plan.lostRanges(losses, image.header)
            holed = Set(outcome.lost.map(\.partition))
            let holedRegions = manifest.regions.indices.filter { index in
                losses.contains { $0.range.overlaps(manifest.regions[index].range) }
            }
            try zeroEdges(image.header)
            if plan.only == nil { try zeroUncoveredEnd(image.header) }
            try settle()
            try written?.compare(with: writer, losses: losses, progress: progress)
            try moveHiddenSectors(manifest)
            try olderLives.run(
                unixSeconds: SystemFacts.unixSeconds(), checksFirst: options.delta, holed: Set(holedRegions), &changes,
                &outcome.warnings)
            try settle()
            // All data is there. Also a run that is stopped behind this goes on: what a growth changed in the restored
            // chunks differs from them, and is written anew.
            try write(&journal)
            for remake in plan.remakes {
                try changes.change("the FAT of partition \(remake.number)") {
                    try make(remake, &outcome)
                    return .passed
                }
            }
            for shrink in plan.shrinks {
                try changes.change("the filesystem of partition \(shrink.number)") {
                    try self.shrink(shrink, &outcome)
                    return .passed
                }
            }
            for growth in plan.growths where !growth.isLate {
                if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
                try grow(growth, &changes, &outcome)
            }
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
            try commit(table, try changes.proved(), &outcome)
            state = image.salvage?.isWhole ?? true ? .complete : .salvaged
            do {
                if options.verify { try verifyEnds() }
                for growth in plan.growths where growth.isLate { try grow(growth, &changes, &outcome) }
            } catch {
                // It must not look whole; what is there is compared and mended by the same command.
                state = .partial
                try invalidate()
                try write(&journal)
                throw error
            }
            return outcome
        } catch {
            throw ImagingError(error)
        }
    }

    /// Block 0 first, then the old backup table: from here on the disk boots nothing, and firmware that repairs tables
    /// (EDK2 rewrites a bad primary from a valid backup) finds nothing to repair with.
    ///
    /// Of one partition alone: its front and its end, where the superblocks are. Boot code of the disk may lie where the
    /// journal would, so there is none; a mark in the partition tells what it holds.
    private func invalidate() throws(BlockIOError) {
        if plan.only != nil {
            try target.writeZeros(writer.area.lowerBound..<writer.direct.lowerBound)
            try target.writeZeros(writer.direct.upperBound..<writer.area.upperBound)
            try target.flush()
            return try markPartition()
        }
        let sector = UInt64(target.logicalSectorSize)
        try target.writeZeros(0..<min(sector, target.byteCount))
        try target.flush()
        // The primary header, and whatever superblock an older life of the disk has in front of the journal's slots.
        try target.writeZeros(min(sector, target.byteCount)..<min(RestoreJournal.slotOffsets[0], target.byteCount))
        // The entries and header of the backup, as far as a table of 128 entries reaches.
        let end = target.byteCount - target.byteCount % sector
        let backup = min(end, 128 * 128 + sector)
        try target.writeZeros(end - backup..<end)
        try target.flush()
    }

    /// Notes in the part of the partition that the commit writes that it is being restored.
    private func markPartition() throws(BlockIOError) {
        let offset = RestoreJournal.slotOffsets[0]
        guard writer.area.byteCount >= RestoreJournal.leastTargetByteCount,
            writer.direct.lowerBound - writer.area.lowerBound >= offset + UInt64(RestoreJournal.slotByteCount),
            let digest = try? plan.digest()
        else { return }
        let mark = RestoreJournal(
            sequence: 1, imageUUID: plan.imageUUID, planDigest: digest, position: 0,
            diskByteCount: writer.area.byteCount)
        try target.writeBytes(mark.slot, at: writer.area.lowerBound + offset)
        try target.flush()
    }

    private var hasJournal: Bool { plan.only == nil && target.byteCount >= RestoreJournal.leastTargetByteCount }

    private func write(_ journal: inout RestoreJournal) throws(BlockIOError) {
        if hasJournal { try journal.write(to: target) }
    }

    private func trim(_ outcome: inout Outcome) throws {
        do { try target.discard(0..<target.byteCount) } catch {
            outcome.warnings.append("the target was not trimmed: \(error)")
        }
        // What is read from trimmed blocks is unknown, block 0 included.
        try invalidate()
    }

    // MARK: data

    private func writeData(
        _ image: any ImageReader, _ journal: inout RestoreJournal, _ outcome: inout Outcome
    ) throws -> WrittenChunks? {
        let manifest = image.header.manifest
        let chunkByteCount = manifest.chunkByteCount
        let pool = try ChunkBufferPool(workers: workers, chunkByteCount: chunkByteCount)
        let jobs = BoundedQueue<RestoreWorker.Job>(capacity: workers + 1)
        let completion = Monitor(RestoreWorker.Completion())
        let failure = Failure()
        progress.begin("restore", total: manifest.usedByteCount)
        var threads: [WorkerThread] = []
        var isDone = false
        // Where it fails, the journal says how far it really was: the threads have ended by then.
        defer { if !isDone { try? advance(&journal, completion) } }
        defer {
            jobs.cancel()
            pool.cancel()
            for thread in threads { thread.join() }
        }
        let worker = RestoreWorker(
            jobs: jobs, pool: pool, completion: completion, writer: writer, progress: progress,
            damaged: image.damageReporter, coding: image.coding, chunkByteCount: UInt64(chunkByteCount),
            salvage: image.salvage)
        for _ in 0..<workers {
            threads.append(
                try WorkerThread {
                    do { try worker.run() } catch {
                        failure.note(error)
                        jobs.cancel()
                        pool.cancel()
                    }
                })
        }
        var written =
            options.verify
            ? WrittenChunks(image.header, targets: plan.regionTargets, identity: image.coding.identity) : nil
        var ordinal = 0
        var lastJournal = SystemFacts.monotonicSeconds()
        while let record = try image.nextRecord() {
            if let error = failure.first { throw error }
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
            let region = manifest.regions[record.region]
            let start = record.range.lowerBound - region.range.lowerBound
            guard let regionTarget = plan.regionTargets[record.region], record.kind != .unused else { continue }
            let used = image.header.maps[record.region].ranges(in: start..<start + record.range.byteCount)
                .map { $0.lowerBound - start..<$0.upperBound - start }
            let chunkTarget = regionTarget + start
            written?.add(record, used: used)
            // What an interrupted run of the same plan wrote should be there, but for what it held back. The journal is not
            // believed: somebody may have used the disk since.
            let isExpected =
                options.delta || record.kind == .data && record.range.upperBound <= (outcome.resumedFrom ?? 0)
            var job = RestoreWorker.Job(
                ordinal: ordinal, record: record, fileOffset: image.position, buffer: nil, fetch: nil,
                target: chunkTarget, used: used, isExpected: isExpected)
            if record.kind == .data {
                guard let buffer = pool.take() else { break }
                job.buffer = buffer
                job.fetch = image.storedFetch()
                job.otherCopies = image.otherCopies()
                if job.fetch == nil {
                    try image.readStored(
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<record.storedByteCount]))
                }
            }
            guard jobs.push(job) else { break }
            ordinal += 1
            if SystemFacts.monotonicSeconds() - lastJournal > 5 {
                try advance(&journal, completion)
                lastJournal = SystemFacts.monotonicSeconds()
            }
        }
        jobs.close()
        for thread in threads { thread.join() }
        threads = []
        if let error = failure.first { throw error }
        guard image.ending != nil || image.salvage != nil else {
            throw ImagingError.failed("the image was not read to its end")
        }
        // A stream tells its id only at the end; nothing was committed yet.
        if let expectedImageID, image.ending == nil {
            throw image.damageReporter(
                "its end is lost, and with it the id that should be \(expectedImageID)", image.position, nil)
        }
        if let expectedImageID, let ending = image.ending,
            !ending.id.description.hasPrefix(expectedImageID.lowercased())
        {
            throw image.damageReporter("it has the id \(ending.id), not \(expectedImageID)", image.position, nil)
        }
        outcome.warnings += manifest.unreadableTexts(image.ending?.lateFacts.unreadable ?? [])
        if image.ending == nil {
            outcome.warnings.append(
                "the end of the image is lost: it would list ranges that could not be read when it was captured")
        }
        journal.position = manifest.geometry.byteCount
        outcome.writtenByteCount = completion.update { $0.written }
        isDone = true
        written?.finish()
        return written
    }

    /// Notes in the journal what is certainly on the medium: first the position, then the flush, then the note.
    private func advance(_ journal: inout RestoreJournal, _ completion: Monitor<RestoreWorker.Completion>)
        throws(BlockIOError)
    {
        guard hasJournal else { return }
        let position = completion.update { $0.position }
        guard position > journal.position else { return }
        try target.flush()
        journal.position = position
        try journal.write(to: target)
    }

    /// Zeroes what nothing was written to in the last MiB of the target, outside of partitions: a signature that an
    /// older life of the disk left there (md 0.90, ZFS) would make it two things at once.
    private func zeroUncoveredEnd(_ header: ImageHeader) throws {
        let window = target.byteCount - min(target.byteCount, 1 << 20)..<target.byteCount
        var covered = plan.placements?.map(\.to) ?? []
        for (index, place) in plan.regionTargets.enumerated() {
            guard let place else { continue }
            let part = window.clamped(to: place..<place + header.maps[index].byteCount)
            guard !part.isEmpty else { continue }
            covered += header.maps[index].ranges(in: part.lowerBound - place..<part.upperBound - place)
                .map { $0.lowerBound + place..<$0.upperBound + place }
        }
        let map = AllocationMap(byteCount: target.byteCount, unsorted: covered)
        for range in map.complement.ranges(in: window) { try writer.writeZeros(range) }
    }

    /// Zeroes what stays unwritten in the first and last MiB of each target partition, so that no stale signature of md,
    /// ZFS or another filesystem comes back to life at a new boundary.
    private func zeroEdges(_ header: ImageHeader) throws {
        guard let placements = plan.placements else { return }
        let edge: UInt64 = 1 << 20
        for placement in placements {
            guard
                let index = header.manifest.regions.firstIndex(where: { $0.partition == placement.number })
            else { continue }
            let length = placement.to.byteCount
            var written = AllocationMap(byteCount: length)
            // What is made anew is written behind this.
            if !plan.remakes.contains(where: { $0.number == placement.number }) {
                written.insert(contentsOf: header.maps[index])
            }
            let unwritten = written.complement
            for window in [0..<min(edge, length), length - min(edge, length)..<length] {
                for range in unwritten.ranges(in: window) {
                    try writer.writeZeros(
                        placement.to.lowerBound + range.lowerBound..<placement.to.lowerBound + range.upperBound)
                }
            }
        }
    }

    /// Lets the boot sectors of FAT and NTFS say where their partitions lie now.
    private func moveHiddenSectors(_ manifest: Manifest) throws {
        let sectorSize = manifest.geometry.logicalSectorSize
        let newSectorSize = plan.geometry.logicalSectorSize
        for placement in plan.placements ?? [] where placement.isMoved || sectorSize != newSectorSize {
            if plan.remakes.contains(where: { $0.number == placement.number }) { continue }
            guard let region = manifest.regions.first(where: { $0.partition == placement.number }),
                let filesystem = region.filesystem
            else { continue }
            func sector(_ offset: UInt64) throws(BlockIOError) -> [UInt8] {
                var bytes = [UInt8](repeating: 0, count: 512)
                var failure: BlockIOError?
                bytes.withUnsafeMutableBytes { buffer in
                    do throws(BlockIOError) {
                        try writer.read(into: buffer, at: placement.to.lowerBound + offset)
                    } catch { failure = error }
                }
                if let failure { throw failure }
                return bytes
            }
            let length = min(placement.from.byteCount, placement.to.byteCount)
            guard length >= 512 else { continue }
            for offset in HiddenSectors.bootSectors(try sector(0), filesystem, volumeByteCount: length) {
                let moved = HiddenSectors.moved(
                    try sector(offset), from: placement.from.lowerBound, to: placement.to.lowerBound,
                    sectorSize: sectorSize, newSectorSize: newSectorSize)
                guard let moved else { continue }
                try moved.withUnsafeBytes { try writer.write($0, at: placement.to.lowerBound + offset) }
                log("the boot sector of partition \(placement.number) says where it lies now")
            }
        }
    }

    /// Everything on the medium, and nothing in a cache that another node of the same disk would not see.
    private func settle() throws(BlockIOError) {
        progress.begin("flush", total: 0)
        try target.flush()
        try (target as? BlockDevice)?.dropCache()
    }

    // MARK: resize and commit

    /// Makes a FAT anew from the one on the scratch. There is no table yet: where this fails, the disk boots nothing.
    private func make(_ remake: RestorePlan.Remake, _ outcome: inout Outcome) throws {
        guard let scratch,
            let overhang = plan.overhangs.dropFirst(plan.shrinks.count)
                .first(where: { $0.place.lowerBound == remake.range.lowerBound })
        else { throw ImagingError.failed("there is no scratch for the FAT of partition \(remake.number)") }
        progress.begin("make the FAT of partition \(remake.number)", total: 0)
        do {
            try FATRemaker(remake, writer: writer, scratch: scratch.writer, scratchOffset: overhang.scratchOffset).run {
                try settle()
            }
        } catch let error as FilesystemError {
            if case .io = error {} else { goesOn = false }
            throw ImagingError.failed(
                "the FAT of partition \(remake.number) could not be made anew: \(error). Check it where it comes from and capture "
                    + "it again, or leave it out (--partition \(remake.number)=drop)")
        }
        if holed.contains(remake.number) {
            outcome.warnings.append(
                "the FAT of partition \(remake.number) was made anew from what is left of it")
        }
        log("the FAT of partition \(remake.number) was made anew, and all of its files are there")
    }

    /// Makes a filesystem fit its place. There is no table yet: where this fails, the disk boots nothing, and the same
    /// restore writes the filesystem anew.
    private func shrink(_ shrink: RestorePlan.Shrink, _ outcome: inout Outcome) throws {
        let name = "the filesystem of partition \(shrink.number)"
        if holed.contains(shrink.number), let obstacle = shrink.obstacleWithLosses {
            goesOn = false
            throw ImagingError.failed(obstacle)
        }
        progress.begin("shrink partition \(shrink.number)", total: 0)
        guard let resizer else { throw ImagingError.failed("\(name) cannot be made smaller in memory") }
        do {
            let made = try resizer.shrink(shrink) { try settle() }
            log("\(name) has shrunk to \(ByteText.rounded(made.byteCount))")
            outcome.warnings += made.remarks.map { "\(name): \($0)" }
        } catch let error as ResizeError {
            // Whoever asked for the end, between two steps, did not make it impossible.
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
            // What it says of the filesystem's state is not the whole truth here: the rest was on the scratch.
            switch error.problem {
            case .tooSmall: goesOn = false
            // Of a volume group that may be somebody who looks at it: the next time it may work.
            case .unsupported, .checkFailed: goesOn = shrink.volumeByteCounts != nil
            default: break
            }
            throw ImagingError.failed(
                "\(name) could not be made to fit its smaller partition: \(error.problem). The partition holds only a part of it"
            )
        } catch LUKSOpenError.wrongKey {
            throw ImagingError.failed(
                "\(name) could not be made to fit its smaller partition: none of the given keys opens its LUKS volume. Give the "
                    + "right one (--luks-key-file)")
        } catch {
            throw ImagingError.failed("\(name) could not be made to fit its smaller partition: \(error)")
        }
        try settle()
    }

    /// Makes a filesystem fill its place. What cannot be grown and is whole keeps its size; what is in doubt ends the
    /// restore.
    private func grow(
        _ growth: RestorePlan.Growth, _ changes: inout TargetChanges, _ outcome: inout Outcome
    ) throws {
        guard let resizer else { return }
        let name = growth.number.map { "the filesystem of partition \($0)" } ?? "the filesystem"
        guard !holed.contains(growth.number) else {
            outcome.failedGrowths.append("\(name) was not grown: parts of it are lost. Check it first, then grow it")
            return
        }
        progress.begin("grow" + (growth.number.map { " partition \($0)" } ?? ""), total: 0)
        try changes.change(name) {
            do {
                let grown = try resizer.grow(growth)
                if let byteCount = grown.byteCount { log("\(name) has grown to \(ByteText.rounded(byteCount))") }
                outcome.failedGrowths += grown.failures
                outcome.warnings += grown.remarks.map { "\(name): \($0)" }
            } catch let error as ResizeError {
                if case .inDoubt = error.state {
                    let keep = growth.number.map { "--partition \($0)=keep" } ?? "--layout keep"
                    throw ImagingError.failed(
                        "\(name) was to grow, and what that left is not proved to be whole: \(error.problem). If it "
                            + "ends the same again, restore it with the size that it had (\(plan.only == nil ? keep : "--layout keep"))"
                    )
                }
                outcome.failedGrowths.append("\(name) was not grown: \(error)")
            } catch {
                outcome.failedGrowths.append("\(name) was not grown: \(error)")
            }
            return .passed
        }
        // The tool wrote through another node: nothing of it may be missing, or hidden by what we cached.
        try settle()
    }

    /// The commit: everything of the first MiB but block 0, and the end with the backup table, flush; then block 0 in one
    /// write. With `only`, the same order within that partition.
    private func commit(
        _ table: CapturedTable?, _: consuming ProvedTarget, _ outcome: inout Outcome
    ) throws(BlockIOError) {
        progress.begin("commit", total: 0)
        stateNow.isCommitting = true
        defer { stateNow.isCommitting = false }
        var parts: [(bytes: [UInt8], offset: UInt64)] = []
        if let table {
            parts = [(table.head, 0), (table.tail, table.tailOffset)] + table.records.map { ($0.bytes, $0.offset) }
        }
        for part in parts where !part.bytes.isEmpty {
            writer.hold(part.bytes, at: part.offset)
            // What of a large table is not held back goes straight to its place: nothing reads it without block 0.
            let range = part.offset..<part.offset + UInt64(part.bytes.count)
            let now = range.clamped(to: writer.direct)
            if !now.isEmpty {
                let start = Int(now.lowerBound - range.lowerBound)
                try target.writeBytes(Array(part.bytes[start..<start + Int(now.byteCount)]), at: now.lowerBound)
            }
        }
        if let jobID = options.jobID, !noteEnd(of: jobID, table) {
            outcome.warnings.append(
                "that the job \(jobID) is done could not be noted on \(target.name): there is no room between its partition table and "
                    + "its first partition")
        }
        let head = writer.head
        let sector = min(target.logicalSectorSize, head.count)
        let start = writer.area.lowerBound
        try target.writeBytes(Array(head[sector...]), at: start + UInt64(sector))
        if !writer.tail.isEmpty { try target.writeBytes(writer.tail, at: writer.direct.upperBound) }
        try target.flush()
        try target.writeBytes(Array(head[..<sector]), at: start)
        try target.flush()
        try (target as? BlockDevice)?.dropCache()
    }

    /// Lays the note that the job is done into what the commit writes; whether there is room.
    private func noteEnd(of jobID: String, _ table: CapturedTable?) -> Bool {
        guard let table, let first = plan.placements?.map(\.to.lowerBound).min(),
            let place = RestoreNote.place(in: writer.head, tableEnd: table.head.count, firstPartition: first)
        else { return false }
        let note = RestoreNote(
            jobID: jobID, imageUUID: plan.imageUUID.description, disk: plan.target, diskByteCount: target.byteCount,
            unixSeconds: SystemFacts.unixSeconds())
        writer.hold(note.bytes, at: UInt64(place))
        return true
    }

    /// Reads back what the commit wrote.
    private func verifyEnds() throws {
        let (head, tail) = (writer.head, writer.tail)
        guard try target.readBytes(at: writer.area.lowerBound, count: head.count) == head,
            try target.readBytes(at: writer.direct.upperBound, count: tail.count) == tail
        else {
            throw ImagingError.failed(
                "\(target.name) gave back other bytes at its ends than were written: it is failing, or not what it says"
            )
        }
    }
}
