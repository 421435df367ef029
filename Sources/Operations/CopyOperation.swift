// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Copies snapshots and images. All data is read and checked, and its chunks are named again for the destination.
package final class CopyOperation {
    private let job: CopyJob
    private let keys: KeyRing
    private let targetKeys: KeyRing
    private let hasOwnPassword: Bool
    private let events: any EventSink
    private var cancellation: Cancellation { keys.cancellation }

    /// - Parameters:
    ///   - keys: the passwords of the source.
    ///   - targetKeys: the passwords of the destination.
    ///   - hasOwnPassword: whether a password was given for the destination alone.
    package init(
        _ job: CopyJob, keys: KeyRing, targetKeys: KeyRing, hasOwnPassword: Bool, events: any EventSink
    ) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.targetKeys = targetKeys
        self.hasOwnPassword = hasOwnPassword
        self.events = events
    }

    /// Runs the copy.
    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> CopyReport {
        try events.reporting("copy", cancellation, outcome: { $0.outcome }) {
            try CapturedHost.check(job.host, "--host")
            let start = SystemFacts.monotonicSeconds()
            let target = try ImageDestination(job.destination, events)
            let options = ImageDestination.ImageOptions(
                isEncrypted: job.encrypts, isXZ: false, overwrite: job.overwrites)
            try target.refuse(options)
            do { return try copied(target, options, start) } catch {
                guard !job.salvages else { throw error }
                throw SalvageAdvice.followed(
                    error, by: "`reforge copy --salvage` copies the rest, with zeros in place of what is lost.",
                    image: job.source, keys)
            }
        }
    }

    private func copied(
        _ target: ImageDestination, _ options: ImageDestination.ImageOptions, _ start: Double
    ) throws -> CopyReport {
        let isEncrypted = try target.isEncrypted(options)
        if hasOwnPassword, !isEncrypted { try targetKeys.refuseUnused(job.destination) }
        // One password for both sides needs only one of them to be encrypted.
        let mayBeUnused = !hasOwnPassword && isEncrypted
        var report = CopyReport()
        if case .snapshot(let selector) = try ImageAddress.parse(job.source, .thisMachine),
            selector.choice == .repository
        {
            guard case .repository(let address) = target else {
                throw JobFailure(
                    .usage, "an image holds one snapshot: say which one of \(job.source), as in \(job.source)latest")
            }
            let from = Stores.normalized(selector.repository)
            _ = try OpenedRepository.open(from, keys)
            if !mayBeUnused { try keys.refuseUnused(job.source) }
            try refusePlain(target, isEncrypted)
            try copyAll(from, to: address, &report)
        } else {
            let input = try OpenedImage.open(job.source, keys, salvages: job.salvages)
            if !mayBeUnused { try keys.refuseUnused(job.source) }
            try refusePlain(target, isEncrypted)
            report.copies.append(try copy(input, try salvaging(input), to: target, options))
        }
        report.seconds = SystemFacts.monotonicSeconds() - start
        return report
    }

    /// A repository without encryption may have replaced an encrypted one: encrypted data is not stored there without
    /// `--to-plain`. (An image is new, and as the command says.)
    private func refusePlain(_ target: ImageDestination, _ isEncrypted: Bool) throws {
        guard case .repository(let address) = target, !isEncrypted, keys.wasUsed, !job.storesInTheClear else { return }
        throw JobFailure(
            .refused, "\(address) is not encrypted, and \(job.source) is: to store it in the clear, add --to-plain")
    }

    private func copyAll(
        _ from: String, to: String, _ report: inout CopyReport
    ) throws {
        guard !Stores.areSame(from, to) else {
            throw JobFailure(.usage, "\(from) cannot be copied into itself")
        }
        let (repository, lock) = try OpenedRepository.open(from, keys, .restore)
        defer { lock.release() }
        let (whole, damaged) = repository.snapshotInfos()
        let there = try OpenedRepository.open(to, targetKeys)
        // A capture keeps its UUID in every repository.
        let known = Set(try there.snapshotIDs().compactMap { try? there.snapshot($0).manifest.imageUUID })
        for info in whole {
            let uuid = try repository.snapshot(info.id).manifest.imageUUID
            if known.contains(uuid) {
                report.skipped += 1
                continue
            }
            let input = try OpenedImage.open("\(from)@\(info.id)", keys, salvages: job.salvages)
            let source = try salvaging(input)
            if source.salvage != nil, known.contains(Self.salvagedUUID(uuid)) {
                report.skipped += 1
                report.damagedSkipped += 1
                events.warn("left-of-damaged", "\(from)@\(info.id) is damaged; its intact data was copied before")
                continue
            }
            report.copies.append(
                try copy(
                    input, source, to: .repository(to), .init(isEncrypted: false, isXZ: false, overwrite: false)))
        }
        guard damaged.isEmpty else {
            throw JobFailure(
                .badImage,
                "\(damaged.count) snapshots of \(from) are damaged and were not copied; all others were: reforge verify \(from)"
            )
        }
    }

    /// - Parameters:
    ///   - amend: changes the manifest of the copy.
    ///   - measures: whether a snapshot's filesystems are surveyed before it is published.
    func copy(
        _ input: OpenedImage, _ source: any ImageReader, to target: ImageDestination,
        _ options: ImageDestination.ImageOptions, measures: Bool = false,
        amend: (inout Manifest) -> Void = { _ in }
    ) throws -> CopyReport.Copy {
        if case .file(let path) = target, let image = input.path {
            try SourceFiles(of: image).refuse(path, of: input.text)
        }
        var header = source.header
        amend(&header.manifest)
        if source.salvage != nil {
            header.manifest.imageUUID = Self.salvagedUUID(header.manifest.imageUUID)
            if !header.manifest.incompatibleFeatures.contains(Manifest.unreadableFeature) {
                header.manifest.incompatibleFeatures.append(Manifest.unreadableFeature)
            }
        }
        header.manifest.level = job.level
        header.manifest.codec = "zstd"
        let (opened, held) = try opened(target, &header, input, options)
        defer { held?.release() }
        let contents = try ImageContents(source)
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        // The end of a source confirms the whole of it: nothing is published before that.
        let executor = CaptureExecutor(
            source: contents, plan: CapturePlan(header: header), progress: progress, cancellation: cancellation)
        let outcome: CaptureExecutor.Outcome
        do {
            outcome = try opened.run(
                executor,
                beforeEnd: {
                    try contents.readToEnd()
                    try input.checkHeldStill()
                    if measures, let writer = opened.snapshot { try StoredFilesystems.measure(in: writer, events) }
                },
                facts: { Self.facts(of: contents, source, header) })
        } catch {
            // A failure of the source is damage of the image, not a failing disk.
            throw contents.failure ?? error
        }
        return CopyReport.Copy(
            source: input.text, id: outcome.summary.id.description, readByteCount: outcome.readByteCount,
            newByteCount: outcome.summary.newByteCount,
            deduplicatedByteCount: outcome.summary.deduplicatedByteCount,
            storedByteCount: outcome.summary.storedByteCount, lost: lost(source))
    }

    /// The late facts of the copy: those of its source, and the lost ranges.
    private static func facts(
        of contents: ImageContents, _ source: any ImageReader, _ header: ImageHeader
    ) -> LateFacts {
        var facts =
            contents.ending?.lateFacts
            ?? LateFacts(
                ended: header.manifest.started,
                warnings: [
                    "the end of what this is a copy of is lost: it would list ranges that could not be read when it was captured"
                ])
        guard let salvage = source.salvage, !salvage.isWhole else { return facts }
        let lost = header.used(salvage.losses.map(\.range))
        // Whole sectors, and no more ranges than the late facts can hold.
        facts.unreadable =
            AllocationMap(
                byteCount: header.manifest.geometry.byteCount, unsorted: facts.unreadable + lost
            )
            .widened(toMultiplesOf: UInt64(header.manifest.geometry.logicalSectorSize))
            .coalesced(toAtMost: 1 << 16).ranges
        facts.warnings.append(
            "copied from a damaged image: \(ByteText.exact(lost.reduce(0) { $0 + $1.byteCount })) were lost there"
        )
        return facts
    }

    /// Opens the destination. A repository sets the chunk length.
    private func opened(
        _ target: ImageDestination, _ header: inout ImageHeader, _ input: OpenedImage,
        _ options: ImageDestination.ImageOptions
    ) throws -> (OpenedDestination, RepositoryLock?) {
        switch target {
        case .stream: return (try .image(nil, header, options, targetKeys), nil)
        case .file(let path): return (try .image(path, header, options, targetKeys), nil)
        case .repository(let address):
            let (repository, lock) = try OpenedRepository.open(address, targetKeys, .copy)
            header.manifest.chunkByteCount = repository.configuration.chunkByteCount
            let names = CapturedHost(header.manifest, path: input.path)
            do {
                return (
                    try .snapshot(
                        repository, lock: lock, header, host: job.host ?? input.snapshot?.info.host ?? names.name,
                        disk: input.snapshot?.info.disk ?? names.disk,
                        tags: input.snapshot?.info.tags ?? header.manifest.tags, level: job.level, events), lock
                )
            } catch {
                lock.release()
                throw error
            }
        }
    }

    /// The ranges that are zeros in the copy; `nil` for a whole source.
    private func lost(_ source: any ImageReader) -> [ByteRange]? {
        guard let salvage = source.salvage, !salvage.isWhole else { return nil }
        for finding in salvage.findings { events.log("damage: \(finding)") }
        let lost = source.header.used(salvage.losses.map(\.range))
        for text in source.header.manifest.lostTexts(lost) { events.log("lost: \(text)") }
        return lost
    }

    /// With `--salvage`, a reader that continues past damage, unless the source was read before and found whole.
    func salvaging(_ input: OpenedImage) throws -> any ImageReader {
        guard job.salvages else { return input.reader }
        guard let exact = input.exactText else { return try input.salvageReader(Salvage()) }
        let again = try input.again() ?? OpenedImage.open(exact, keys, operation: .verify, salvages: true)
        let survey = try again.losses(events, cancellation)
        guard !survey.isWhole else { return input.reader }
        let allowed = Salvage(only: survey, byteCount: input.reader.header.manifest.geometry.byteCount)
        return try input.salvageReader(allowed)
    }

    /// The UUID of a salvaged copy. It differs from the capture's, so that the whole capture does not count as stored;
    /// it is derived from it, so that a damaged capture is copied once.
    private static func salvagedUUID(_ uuid: GUID) -> GUID {
        let hash = ContentHash(of: Array("salvaged \(uuid)".utf8))
        return (try? GUID(bigEndianBytes: Array(hash.bytes.prefix(16)))) ?? uuid
    }
}
