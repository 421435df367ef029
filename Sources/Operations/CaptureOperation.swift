// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// Captures a disk into an image or a snapshot. The disk is only read.
package final class CaptureOperation {
    let job: CaptureJob
    private let keys: KeyRing
    let events: any EventSink
    private var cancellation: Cancellation { keys.cancellation }
    private let toolVersion: String
    /// What is left behind if the job ends now, as sentences.
    private let left = Monitor<String?>(nil)
    private var disk: String { job.disk }

    /// - Parameters:
    ///   - keys: the job's passwords.
    ///   - toolVersion: the version of the program, for the manifest.
    package init(
        _ job: CaptureJob, keys: KeyRing, events: any EventSink, toolVersion: String
    ) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
        self.toolVersion = toolVersion
    }

    /// What is left behind if the job ends now, as sentences. From any thread.
    package var leftBehind: @Sendable (ExitStatus) -> String? { { [left] _ in left.update { $0 } } }

    /// Runs the capture.
    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> CaptureReport {
        do {
            let report = try capture()
            events.take(
                .finished(
                    Report(
                        operation: "capture", outcome: Outcome(report.status), message: report.lossSentence(disk),
                        imageID: report.imageID,
                        writtenByteCount: report.storedByteCount, seconds: report.seconds)))
            return report
        } catch {
            let failure = JobFailure(error, cancellation: cancellation)
            events.take(
                .finished(Report(operation: "capture", outcome: Outcome(failure.status), message: failure.message)))
            throw error
        }
    }

    private func capture() throws -> CaptureReport {
        let start = SystemFacts.monotonicSeconds()
        try CapturedHost.check(job.host, "--host")
        try CapturedHost.check(job.diskName, "--disk")
        let opened = try OpenedDisk(disk, .readOnly, sectorSize: job.sectorSize)
        let virtual = try VirtualSource.open(job, opened, keys)
        try refuseImage(opened, isVirtual: virtual != nil)
        let destination = try ImageDestination(job.image, events)
        left.update { $0 = Self.sentences(destination) }
        let options = ImageDestination.ImageOptions(
            isEncrypted: job.encrypts, isXZ: job.codec == "xz", overwrite: job.overwrites)
        try destination.refuse(options)
        let unlocker = try LUKSKeys(job.luksKeyFiles).unlocker()
        let source = try DiskSource(
            opened, virtual, usesSnapshots: job.usesSnapshots, rescues: job.rescues, allowMounted: job.allowsMounted,
            events, cancellation)
        defer { source.end() }
        try refuseDanger(opened, destination)
        let survey = try source.survey(
            allUsed: job.copiesAllSectors, skipPageFiles: job.skipsPageFiles, trustMaps: job.trustsMaps,
            unlocker: unlocker)
        try unlocker?.check(disk)
        try refuseInterrupted(source, survey)
        let place = try openedPlace(destination)
        defer { place.repository?.1.release() }
        if try !destination.isEncrypted(options) { try keys.refuseUnused(job.image) }
        let moment =
            try place.repository.map { try $0.0.captureMoment(lock: $0.1, trustsClock: job.trustsClock) }
            ?? CaptureMoment(unixSeconds: SystemFacts.unixSeconds())
        if let note = moment.note { events.warn("clock", note) }
        let names = virtual?.origin?.names ?? CapturedHost(survey, opened, isVirtual: virtual != nil)
        let hostName = job.host ?? names.name
        let plan = try makePlan(source, survey, place.chunkByteCount, hostName, moment)
        let manifest = plan.header.manifest
        events.take(.planned(PlanText(Self.summary(manifest))))
        let target: OpenedDestination
        switch destination {
        case .stream: target = try .image(nil, plan.header, options, keys)
        case .file(let path): target = try .image(path, plan.header, options, keys)
        case .repository:
            guard let (repository, lock) = place.repository else { throw JobFailure(.cannotCreate, "no repository") }
            target = try .snapshot(
                repository, lock: lock, plan.header, host: hostName, disk: job.diskName ?? names.disk,
                tags: manifest.tags, level: manifest.level, events)
            if job.host == nil, job.diskName == nil { noteOtherPlace(repository, hostName, names.disk, opened) }
        }
        let begun = SystemFacts.monotonicSeconds()
        let outcome = try capture(source, plan, target) {
            moment.unixSeconds + Int64(SystemFacts.monotonicSeconds() - begun)
        }
        return CaptureReport(
            job.image, manifest, outcome, host: place.repository == nil ? nil : hostName,
            seconds: SystemFacts.monotonicSeconds() - start)
    }

    private func refuseInterrupted(_ source: DiskSource, _ survey: DiskSurvey) throws {
        guard !job.allowsPartial, let found = try InterruptedRestore(on: source.reader, survey.volumes) else { return }
        let state = found.partition == nil ? "boots nothing" : "no filesystem there"
        throw JobFailure(
            .refused,
            "\(disk) holds \(found), and \(state): finish that restore first, or capture what is there with "
                + "--allow-partial")
    }

    /// The repository, if it is the destination, and the chunk length of the destination.
    private func openedPlace(
        _ destination: ImageDestination
    ) throws -> (repository: (Repository, RepositoryLock)?, chunkByteCount: Int) {
        guard case .repository(let address) = destination else {
            // Measured: with zstd, 8 MiB is as fast as 4 MiB and the image 0.8 % smaller; with xz, two workers need 248
            // MiB of memory, and 300 MiB at 16 MiB for an archive 1 % smaller.
            return (nil, job.chunkByteCount ?? 8 << 20)
        }
        let (repository, lock) = try OpenedRepository.open(address, keys, .capture)
        let own = repository.configuration.chunkByteCount
        guard own == job.chunkByteCount ?? own else {
            lock.release()
            throw JobFailure(.usage, "\(address) has chunks of \(ByteText.exact(UInt64(own))): leave out --chunk-size")
        }
        return ((repository, lock), own)
    }

    private func makePlan(
        _ source: DiskSource, _ survey: DiskSurvey, _ chunkByteCount: Int, _ hostName: String, _ moment: CaptureMoment
    ) throws -> CapturePlan {
        var plan = CapturePlanner.plan(
            survey, tableBytes: try CapturedTable(reading: source.reader, table: survey.table),
            options: CaptureOptions(
                level: job.level ?? (job.codec == "xz" ? 6 : 3), allSectors: job.copiesAllSectors,
                chunkByteCount: chunkByteCount, note: job.note),
            machine: source.origin?.machine ?? .current(), mounted: source.mountedReadWrite, toolVersion: toolVersion,
            started: SystemFacts.utcText(moment.unixSeconds), localOffsetSeconds: SystemFacts.localOffsetSeconds(),
            swapHeaders: try Self.swapHeaders(survey, source.reader))
        plan.header.manifest.machine.hostName = hostName
        plan.header.manifest.tags = job.tags.sorted()
        plan.header.manifest.codec = job.codec
        // Old readers would restore holes as if they were zeros of the disk.
        if job.rescues { plan.header.manifest.incompatibleFeatures = [Manifest.unreadableFeature] }
        return plan
    }

    private func capture(
        _ source: DiskSource, _ plan: CapturePlan, _ opened: OpenedDestination,
        clock: @escaping @Sendable () -> Int64
    ) throws -> CaptureExecutor.Outcome {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        do {
            return try opened.run(
                CaptureExecutor(
                    source: source.reader, plan: plan, progress: progress, cancellation: cancellation, clock: clock),
                beforeEnd: { try source.check() })
        } catch {
            var failure = JobFailure(error, cancellation: cancellation)
            // Without an error number it is no bad sector: a snapshot without room, a disk that is shorter than it was.
            if case .block(let block)? = error as? ImagingError, block.operation == .read, block.errorNumber != 0,
                !job.rescues, !source.isVirtual
            {
                failure.message += "; --rescue retries, reads around what cannot be read, and records the holes"
            }
            throw failure.followed(by: left.update { $0 } ?? "")
        }
    }
}
