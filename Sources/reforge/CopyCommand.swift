// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct CopyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "copy",
        abstract: "Copies a snapshot or an image into another repository, or into one image file.",
        discussion: """
            Everything is read, checked and named anew in the destination; only what is missing there is written.

            Examples:

              reforge copy repo@latest /media/stick/laptop.img.zst
              reforge copy laptop.img.zst repo@
              reforge copy repo@ /mnt/offsite/repo@ --to-password-file offsite-password
              reforge copy damaged.img.zst rest.img.zst --salvage

            The source REPO@ copies every snapshot that the destination does not have yet.

            JSON fields: schema (1), copies [{source, id, readByteCount, newByteCount, deduplicatedByteCount, storedByteCount, lost}], \
            skipped, damagedSkipped, seconds.
            """)

    @Argument(help: "A snapshot, an image, - for standard input, or REPO@ for all its snapshots.") var source: String
    @Argument(help: "REPO@, an image file, or - for standard output.") var destination: String
    @Option(help: "The zstd compression level (1 to 22) in the destination.") var level = 3
    @Flag(help: "Encrypt the image file that is written (.img.enc).") var encrypt = false
    @Flag(help: "Replace an image that exists. Files that are neither images nor empty stay.") var overwrite = false
    @Option(help: "The host, where the source does not say one.") var host: String?
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Let a repository that is not encrypted take what is encrypted in the source.") var toPlain = false
    @Flag(
        help:
            "Of a damaged source: copy all that is left, with zeros in place of what is lost, which the copy records as unreadable. Exit code 65 where anything is lost."
    )
    var salvage = false
    @OptionGroup var keyOptions: KeyOptions
    @Option(help: ArgumentHelp("A file with the password of the destination.", valueName: "file"))
    var toPasswordFile: String?

    private struct Report: Encodable {
        struct Copy: Encodable {
            var source: String
            var id: String
            var readByteCount: UInt64
            var newByteCount: UInt64
            var deduplicatedByteCount: UInt64
            var storedByteCount: UInt64
            /// What the copy has zeros for, in bytes of the captured disk; `nil` of a whole source.
            var lost: [ByteRange]?
        }
        var schema = 1
        var copies: [Copy] = []
        var skipped = 0
        /// Of these, damaged ones of which what is left was copied before.
        var damagedSkipped = 0
        var seconds: Double = 0
    }

    func validate() throws {
        guard ZstdCompressor.levels.contains(level) else { throw ValidationError("--level takes 1 to 22") }
    }

    func run() throws {
        try CommandRun.run(json: json) {
            try CapturedHost.check(host, "--host")
            let start = SystemFacts.monotonicSeconds()
            let target = try ImageDestination(destination, Console.events)
            let options = ImageDestination.ImageOptions(isEncrypted: encrypt, isXZ: false, overwrite: overwrite)
            try target.refuse(options)
            let keys = KeyRing(keyOptions, Console.events)
            do { return try run(target, options, keys, start) } catch {
                guard !salvage else { throw error }
                throw SalvageAdvice.followed(
                    error, by: "`reforge copy --salvage` copies the rest, with zeros in place of what is lost.",
                    image: source,
                    keys)
            }
        }
    }

    private func run(
        _ target: ImageDestination, _ options: ImageDestination.ImageOptions, _ keys: KeyRing, _ start: Double
    ) throws -> ExitStatus {
        var toOptions = keyOptions
        if let toPasswordFile { toOptions.passwordFile = toPasswordFile }
        let targetKeys = KeyRing(toOptions, Console.events)
        let isEncrypted = try target.isEncrypted(options)
        if toPasswordFile != nil, !isEncrypted { try targetKeys.refuseUnused(destination) }
        // One password for both is for one of them at least.
        let mayBeUnused = toPasswordFile == nil && isEncrypted
        var report = Report()
        if case .snapshot(let selector) = try ImageAddress.parse(source, .thisMachine), selector.choice == .repository {
            guard case .repository(let path) = target else {
                throw JobFailure(
                    .usage, "an image holds one snapshot: say which one of \(source), as in \(source)latest")
            }
            _ = try OpenedRepository.open(FilePath(selector.repository), keys)
            if !mayBeUnused { try keys.refuseUnused(source) }
            try refusePlain(target, keys, isEncrypted)
            try copyAll(FilePath(selector.repository), to: path, keys, targetKeys, &report)
        } else {
            let input = try OpenedImage.open(source, keys, salvages: salvage)
            if !mayBeUnused { try keys.refuseUnused(source) }
            try refusePlain(target, keys, isEncrypted)
            report.copies.append(try copy(input, try salvaging(input, keys), to: target, options, targetKeys))
        }
        report.seconds = SystemFacts.monotonicSeconds() - start
        try show(report)
        return report.damagedSkipped > 0 || report.copies.contains { $0.lost != nil } ? .badImage : .done
    }

    /// A repository without encryption may have been put in the place of one that had it: what was secret is not stored
    /// there unasked. (An image is made here, as the command says.)
    private func refusePlain(_ target: ImageDestination, _ keys: KeyRing, _ isEncrypted: Bool) throws {
        guard case .repository(let path) = target, !isEncrypted, keys.wasUsed, !toPlain else { return }
        throw JobFailure(
            .refused, "\(path) is not encrypted, and \(source) is: to store it in the clear, add --to-plain")
    }

    private func copyAll(
        _ from: FilePath, to: FilePath, _ keys: KeyRing, _ targetKeys: KeyRing, _ report: inout Report
    ) throws {
        guard Files.realPath(from) != Files.realPath(to) else {
            throw JobFailure(.usage, "\(from) cannot be copied into itself")
        }
        let (repository, lock) = try OpenedRepository.open(from, keys, .restore)
        defer { lock.release() }
        let (whole, damaged) = repository.snapshotInfos()
        let there = try OpenedRepository.open(to, targetKeys)
        // The same capture has the same UUID wherever it is stored.
        let known = Set(try there.snapshotIDs().compactMap { try? there.snapshot($0).manifest.imageUUID })
        for info in whole {
            let uuid = try repository.snapshot(info.id).manifest.imageUUID
            if known.contains(uuid) {
                report.skipped += 1
                continue
            }
            let input = try OpenedImage.open("\(from)@\(info.id)", keys, salvages: salvage)
            let source = try salvaging(input, keys)
            if source.salvage != nil, known.contains(Self.salvagedUUID(uuid)) {
                report.skipped += 1
                report.damagedSkipped += 1
                Console.message("warning: \(from)@\(info.id) is damaged; what is left of it was copied before")
                continue
            }
            report.copies.append(
                try copy(
                    input, source, to: .repository(to), .init(isEncrypted: false, isXZ: false, overwrite: false),
                    targetKeys))
        }
        guard damaged.isEmpty else {
            throw JobFailure(
                .badImage,
                "\(damaged.count) snapshots of \(from) are damaged and were not copied; all others were: reforge verify \(from)"
            )
        }
    }

    private func copy(
        _ input: OpenedImage, _ source: any ImageReader, to target: ImageDestination,
        _ options: ImageDestination.ImageOptions, _ targetKeys: KeyRing
    ) throws -> Report.Copy {
        var header = source.header
        if source.salvage != nil {
            header.manifest.imageUUID = Self.salvagedUUID(header.manifest.imageUUID)
            if !header.manifest.incompatibleFeatures.contains(Manifest.unreadableFeature) {
                header.manifest.incompatibleFeatures.append(Manifest.unreadableFeature)
            }
        }
        header.manifest.level = level
        header.manifest.codec = "zstd"
        let opened: OpenedDestination
        var held: RepositoryLock?
        defer { held?.release() }
        switch target {
        case .stream: opened = try OpenedDestination.image(nil, header, options, targetKeys)
        case .file(let path): opened = try OpenedDestination.image(path, header, options, targetKeys)
        case .repository(let path):
            let (repository, lock) = try OpenedRepository.open(path, targetKeys, .copy)
            held = lock
            header.manifest.chunkByteCount = repository.configuration.chunkByteCount
            let names = CapturedHost(header.manifest, path: input.path)
            opened = try OpenedDestination.snapshot(
                repository, lock: lock, header, host: host ?? input.snapshot?.info.host ?? names.name,
                disk: input.snapshot?.info.disk ?? names.disk,
                tags: input.snapshot?.info.tags ?? header.manifest.tags, level: level, Console.events)
        }
        let contents = try ImageContents(source)
        let progress = Progress()
        let display = ProgressReporter(progress, Console.events)
        defer { display.end() }
        // The end of a source confirms all of it: nothing is published before it was reached.
        let executor = CaptureExecutor(
            source: contents, plan: CapturePlan(header: header), progress: progress)
        let outcome: CaptureExecutor.Outcome
        do {
            outcome = try opened.run(
                executor,
                beforeEnd: {
                    try contents.readToEnd()
                    try input.checkHeldStill()
                },
                facts: {
                    var facts =
                        contents.ending?.lateFacts
                        ?? LateFacts(
                            ended: header.manifest.started,
                            warnings: [
                                "the end of what this is a copy of is lost: it would list ranges that could not be read when it was captured"
                            ])
                    guard let salvage = source.salvage, !salvage.isWhole else { return facts }
                    let lost = header.used(salvage.losses.map(\.range))
                    // Whole sectors, and no more ranges than the late facts have room for.
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
                })
        } catch {
            // What is wrong with the source is damage, and no failing disk.
            throw contents.failure ?? error
        }
        return Report.Copy(
            source: input.text, id: outcome.summary.id.description, readByteCount: outcome.readByteCount,
            newByteCount: outcome.summary.newByteCount,
            deduplicatedByteCount: outcome.summary.deduplicatedByteCount,
            storedByteCount: outcome.summary.storedByteCount, lost: lost(source))
    }

    /// What a copy has zeros for; `nil` of a whole source.
    private func lost(_ source: any ImageReader) -> [ByteRange]? {
        guard let salvage = source.salvage, !salvage.isWhole else { return nil }
        for finding in salvage.findings { Console.message("damage: \(finding)") }
        let lost = source.header.used(salvage.losses.map(\.range))
        for text in source.header.manifest.lostTexts(lost) { Console.message("lost: \(text)") }
        return lost
    }

    /// With `--salvage`, a reader that passes damage, where there is any or that cannot be known before.
    private func salvaging(_ input: OpenedImage, _ keys: KeyRing) throws -> any ImageReader {
        guard salvage else { return input.reader }
        guard let path = input.path else { return SalvageReader(input.reader, Salvage()) }
        // The very snapshot that is copied: what `latest` means may change meanwhile.
        let exact = input.snapshot.map { "\(path)@\($0.info.id)" } ?? input.text
        let survey = try OpenedImage.open(exact, keys, operation: .verify, salvages: true).losses(Console.events)
        guard !survey.isWhole else { return input.reader }
        let allowed = Salvage(only: survey, byteCount: input.reader.header.manifest.geometry.byteCount)
        return SalvageReader(input.reader, allowed)
    }

    /// The identity of what is left of a capture: the whole one must not count as stored where that is. Always the same, so that it is
    /// copied once.
    private static func salvagedUUID(_ uuid: GUID) -> GUID {
        let hash = ContentHash(of: Array("salvaged \(uuid)".utf8))
        return (try? GUID(bigEndianBytes: Array(hash.bytes.prefix(16)))) ?? uuid
    }

    private func show(_ report: Report) throws {
        if json {
            let text = String(decoding: try JSONText.encode(report, pretty: true), as: UTF8.self)
            destination == "-" ? Console.message(text) : try Console.result(text)
            return
        }
        for copy in report.copies {
            let line =
                "copied \(copy.source): \(ByteText.rounded(copy.readByteCount)) read, \(ByteText.rounded(copy.newByteCount)) new, "
                + "\(ByteText.rounded(copy.deduplicatedByteCount)) there already, \(ByteText.rounded(copy.storedByteCount)) stored; "
                + "id \(copy.id.prefix(16))…"
            destination == "-" ? Console.message(line) : try Console.result(line)
        }
        if report.copies.contains(where: { $0.lost != nil }) {
            Console.message(
                "reforge: the source is damaged, and was left as it is: the copy has all that is left of it, and records what is lost"
            )
        }
        if report.skipped > 0 { Console.message("\(report.skipped) snapshots were there already") }
    }
}
