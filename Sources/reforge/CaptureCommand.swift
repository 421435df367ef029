// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture", abstract: "Captures a whole disk into an image or a repository. The disk is only read.",
        discussion: """
            What is understood (\(VolumeIdentifier.mappedNames.joined(separator: ", "))) is captured by its used sectors, \
            everything else whole; LUKS only with its key.
            The image or snapshot appears only when it is finished. Into a repository, only what is not stored there already is
            written; after an interruption the same command goes on from what is stored.

            Examples:

              reforge capture /dev/sda /mnt/backup/laptop.img.zst --note "before the upgrade"
              reforge capture /dev/sda /mnt/backup/repo@ --tag nightly
              reforge capture /dev/sda - | ssh store 'cat > laptop.img.zst'
              reforge capture /dev/sda laptop.img.zst --luks-key-file /root/disk.key

            With the key of a LUKS volume, only its sectors in use are captured, still encrypted; without, all of it is.

            A source must hold still: an unmounted disk, a virtual machine's disk image, a disk whose mounted filesystems are LVM \
            volumes (--snapshot), or any disk from the recovery medium (reforge.capture=).

            JSON fields: schema (1), image, imageID, imageUUID, diskByteCount, usedByteCount, imageByteCount, seconds, \
            partitions [{number, filesystem, byteCount, usedByteCount, mapSource, wholeReason}], warnings, unreadable, host, \
            readByteCount, newByteCount, deduplicatedByteCount, storedByteCount.
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @Argument(help: "The image to write, - for standard output, or REPO@ for a repository.") var image: String
    @Option(
        help:
            "The compression level: zstd 1 to 19, and up to 22 for those with time (default 3); xz 0 to 9 (default 6).")
    var level: Int?
    @Flag(help: "Copy every sector, exactly.") var allSectors = false
    @Flag(
        help: "Leave out what Windows' pagefile.sys, swapfile.sys and hiberfil.sys hold (all but their first 64 KiB).")
    var skipPageFiles = false
    @Flag(help: "Believe allocation maps without comparing them with what files use: faster, and no safeguard.")
    var trustMaps = false
    @Option(
        help:
            "The length of a chunk of an image: a power of two from 64K to 64M (default 8M). A repository has its own."
    )
    var chunkSize: ByteSize?
    @Option(help: "How an image is compressed: zstd, or xz (.img.xz, smaller and slower: for archives).") var codec =
        ImageCodec.zstd
    @Flag(help: "Encrypt the image (.img.enc); asks for a password.") var encrypt = false
    @Option(help: "A remark to keep in the image.") var note = ""
    @Option(help: "The captured machine's name in a repository (default: the captured system's own name).") var host:
        String?
    @Option(
        name: .customLong("disk"),
        help: "The disk's name in a repository (default: its serial number, else what is on it tells).")
    var diskName: String?
    @Option(help: "A tag; may be repeated.") var tag: [String] = []
    @Flag(help: "Go on where sectors cannot be read: retry, read around them, and record the holes.") var rescue = false
    @Flag(help: "Read mounted LVM volumes from snapshots that are made for it and removed again.") var snapshot = false
    @Flag(
        help:
            "Capture although a partition is mounted read-write; such partitions are copied whole, and may not be consistent."
    )
    var allowMounted = false
    @Flag(
        help: ArgumentHelp(
            "Date a snapshot by this machine's clock, although the repository's clock or newest snapshot says otherwise."
        ))
    var trustClock = false
    @Flag(help: "Capture a disk also where a restore onto it was interrupted: what it holds is not whole.")
    var allowPartial = false
    @Flag(help: "Replace an image that exists. Files that are neither images nor empty stay.") var overwrite = false
    @Flag(help: "Capture DISK also where it is an image file itself (of Reforge or another tool), as the bytes it has.")
    var asDisk = false
    @Flag(help: "Print one JSON object (on standard error where the image goes to standard output).") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var luksOptions: LUKSOptions

    enum ImageCodec: String, ExpressibleByArgument, CaseIterable {
        case zstd, xz
        var levels: ClosedRange<Int> { self == .zstd ? ZstdCompressor.levels : 0...9 }
        var defaultLevel: Int { self == .zstd ? 3 : 6 }
        /// Measured: with zstd, 8 MiB is as fast as 4 MiB and the image 0.8 % smaller; with xz, two workers need 248 MiB of
        /// memory, and 300 MiB at 16 MiB for an archive 1 % smaller.
        var defaultChunkByteCount: Int { 8 << 20 }
    }

    func validate() throws {
        guard codec.levels.contains(level ?? codec.defaultLevel) else {
            throw ValidationError("--level takes \(codec.levels.lowerBound) to \(codec.levels.upperBound)")
        }
        if let chunkSize {
            guard let count = Int(exactly: chunkSize.byteCount), Manifest.isValidChunkByteCount(count) else {
                throw ValidationError("--chunk-size takes a power of two from 64K to 64M")
            }
        }
        if allSectors, skipPageFiles {
            throw ValidationError("--all-sectors and --skip-page-files exclude each other")
        }
        if !luksOptions.luksKeyFile.isEmpty {
            if allSectors { throw ValidationError("--all-sectors and --luks-key-file exclude each other") }
            if snapshot { throw ValidationError("--snapshot and --luks-key-file exclude each other") }
        }
        if encrypt, codec == .xz { throw ValidationError("--encrypt and --codec xz exclude each other") }
        guard tag.allSatisfy({ !$0.isEmpty && !$0.contains(",") && $0.allSatisfy { !$0.isNewline } }) else {
            throw ValidationError("a tag is not empty, and has no comma in it")
        }
    }

    private struct Report: Encodable {
        struct Partition: Encodable {
            var number: Int?
            var filesystem: String
            var byteCount: UInt64
            var usedByteCount: UInt64
            var mapSource: FilesystemInfo.MapSource
            var wholeReason: String?
        }
        var schema = 1
        var image: String
        var imageID: String
        var imageUUID: String
        var diskByteCount: UInt64
        var usedByteCount: UInt64
        var imageByteCount: UInt64
        var seconds: Double
        var partitions: [Partition]
        var warnings: [String]
        var unreadable: [ByteRange]
        var host: String?
        var readByteCount: UInt64
        var newByteCount: UInt64
        var deduplicatedByteCount: UInt64
        var storedByteCount: UInt64
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let start = SystemFacts.monotonicSeconds()
            try CapturedHost.check(host, "--host")
            try CapturedHost.check(diskName, "--disk")
            let disk = try OpenedDisk(disk, .readOnly, sectorSize: sectorSize?.rawValue)
            try refuseImage(disk)
            let destination = try ImageDestination(image, Console.events)
            let left = Self.sentences(destination)
            CommandRun.leaves(.init { _ in left })
            let options = ImageDestination.ImageOptions(
                isEncrypted: encrypt, isXZ: codec == .xz, overwrite: overwrite)
            try destination.refuse(options)
            let unlocker = try luksOptions.keys.unlocker()
            let source = try DiskSource(
                disk, usesSnapshots: snapshot, rescues: rescue, allowMounted: allowMounted, Console.events)
            defer { source.end() }
            try refuseDanger(disk, destination)
            let survey = try source.survey(
                allUsed: allSectors, skipPageFiles: skipPageFiles, trustMaps: trustMaps, unlocker: unlocker)
            try unlocker?.check(self.disk)
            if !allowPartial, let found = try InterruptedRestore(on: source.reader, survey.volumes) {
                let state = found.partition == nil ? "boots nothing" : "no filesystem there"
                throw JobFailure(
                    .refused,
                    "\(self.disk) holds \(found), and \(state): finish that restore first, or capture what is there with "
                        + "--allow-partial")
            }
            let keys = KeyRing(keyOptions, Console.events)
            var chunkByteCount = chunkSize.map { Int($0.byteCount) } ?? codec.defaultChunkByteCount
            var repository: (Repository, RepositoryLock)?
            if case .repository(let path) = destination {
                let opened = try OpenedRepository.open(path, keys, .capture)
                repository = opened
                if chunkSize != nil, chunkByteCount != opened.0.configuration.chunkByteCount {
                    throw JobFailure(
                        .usage,
                        "\(path) has chunks of \(ByteText.exact(UInt64(opened.0.configuration.chunkByteCount))): leave out --chunk-size"
                    )
                }
                chunkByteCount = opened.0.configuration.chunkByteCount
            }
            defer { repository?.1.release() }
            if try !destination.isEncrypted(options) { try keys.refuseUnused(image) }
            let moment =
                try repository.map { try $0.0.captureMoment(lock: $0.1, trustsClock: trustClock) }
                ?? CaptureMoment(unixSeconds: SystemFacts.unixSeconds())
            if let note = moment.note { Console.message("warning: \(note)") }
            let names = CapturedHost(survey, disk)
            let hostName = host ?? names.name
            var plan = CapturePlanner.plan(
                survey, tableBytes: try CapturedTable(reading: source.reader, table: survey.table),
                options: CaptureOptions(
                    level: level ?? codec.defaultLevel, allSectors: allSectors, chunkByteCount: chunkByteCount,
                    note: note),
                machine: .current(), mounted: source.mountedReadWrite, toolVersion: ProgramVersion.text,
                started: SystemFacts.utcText(moment.unixSeconds),
                localOffsetSeconds: SystemFacts.localOffsetSeconds(),
                swapHeaders: try Self.swapHeaders(survey, source.reader))
            plan.header.manifest.machine.hostName = hostName
            plan.header.manifest.tags = tag.sorted()
            plan.header.manifest.codec = codec.rawValue
            // Old readers would restore holes as if they were zeros of the disk.
            if rescue { plan.header.manifest.incompatibleFeatures = [Manifest.unreadableFeature] }
            let manifest = plan.header.manifest
            for line in Self.summary(manifest) { Console.message(line) }
            let opened: OpenedDestination
            switch destination {
            case .stream: opened = try .image(nil, plan.header, options, keys)
            case .file(let path): opened = try .image(path, plan.header, options, keys)
            case .repository:
                guard let repository else { throw JobFailure(.cannotCreate, "no repository") }
                opened = try .snapshot(
                    repository.0, lock: repository.1, plan.header, host: hostName,
                    disk: diskName ?? names.disk, tags: manifest.tags, level: manifest.level, Console.events)
            }
            if let repository, host == nil, diskName == nil {
                noteOtherPlace(repository.0, hostName, names.disk, disk)
            }
            let begun = SystemFacts.monotonicSeconds()
            let outcome = try capture(source, plan, opened) {
                moment.unixSeconds + Int64(SystemFacts.monotonicSeconds() - begun)
            }
            let report = Report(
                image: image, imageID: outcome.summary.id.description, imageUUID: "\(manifest.imageUUID)",
                diskByteCount: manifest.geometry.byteCount, usedByteCount: manifest.usedByteCount,
                imageByteCount: outcome.summary.storedByteCount, seconds: SystemFacts.monotonicSeconds() - start,
                partitions: manifest.regions.filter { $0.kind != .gap }.map {
                    .init(
                        number: $0.partition, filesystem: $0.filesystem?.kindName ?? "unknown",
                        byteCount: $0.range.byteCount, usedByteCount: $0.usedByteCount,
                        mapSource: $0.filesystem?.mapSource ?? .whole, wholeReason: $0.filesystem?.wholeReason)
                }, warnings: manifest.warnings + manifest.unreadableTexts(outcome.unreadable),
                unreadable: outcome.unreadable, host: repository == nil ? nil : hostName,
                readByteCount: outcome.readByteCount, newByteCount: outcome.summary.newByteCount,
                deduplicatedByteCount: outcome.summary.deduplicatedByteCount,
                storedByteCount: outcome.summary.storedByteCount)
            try show(report)
            return .done
        }
    }

    /// A machine that is cloned has the names of its template, and so have its files: the two would count as one. They take turns;
    /// a file that is another one each time (of snapshots with a date) does not come again.
    private func noteOtherPlace(_ repository: Repository, _ host: String, _ disk: String, _ source: OpenedDisk) {
        guard source.identity.transport == "file" else { return }
        let paths = repository.snapshotInfos().whole.filter { $0.host == host && $0.disk == disk }
            .sorted { $0.startedSeconds ?? 0 < $1.startedSeconds ?? 0 }.suffix(16)
            .compactMap { try? repository.snapshot($0.id).manifest.disk.path }
        let own = source.identity.path
        guard let before = paths.last, before != own, paths.contains(own) else { return }
        Console.message(
            "warning: snapshots of \(host)/\(disk) are of \(before) and of \(own) in turn. Where these are two machines (clones have the "
                + "names of their template), tell them apart with --host, or one counts as the other's past"
        )
    }

    private func show(_ report: Report) throws {
        let toError = image == "-"
        if json {
            if toError {
                Console.message(String(decoding: try JSONText.encode(report, pretty: true), as: UTF8.self))
            } else {
                try Console.json(report)
            }
            return
        }
        for warning in report.warnings { Console.message("warning: \(warning)") }
        let rate = ByteText.rate(report.usedByteCount, seconds: report.seconds)
        let repositoryLine =
            "captured \(ByteText.rounded(report.readByteCount)) read: \(ByteText.rounded(report.newByteCount)) new, "
            + "\(ByteText.rounded(report.deduplicatedByteCount)) deduplicated, \(ByteText.rounded(report.storedByteCount)) stored, in "
            + "\(TerminalEvents.duration(Int(report.seconds.rounded()))) (\(rate)); snapshot "
            + "\(report.imageID.prefix(12)) of \(report.host ?? "")"
        if report.host != nil { return try Console.result(repositoryLine) }
        let line =
            "captured \(ByteText.rounded(report.usedByteCount)) in use of \(ByteText.rounded(report.diskByteCount)) into "
            + "\(ByteText.rounded(report.imageByteCount)) in \(TerminalEvents.duration(Int(report.seconds.rounded()))) "
            + "(\(rate)), image id \(report.imageID.prefix(16))…"
        toError ? Console.message(line) : try Console.result(line)
    }

    /// An image in the place of the disk is a swapped command line, or another tool's container: its bytes are no disk's.
    private func refuseImage(_ source: OpenedDisk) throws {
        guard !asDisk, let known = try source.knownImage else { return }
        let instead =
            switch known.kind {
            case .image: "reforge copy copies an image"
            case .repositoryFile: "reforge copy copies a snapshot"
            case .foreign: "its own tool makes a raw disk of it (qemu-img convert -O raw)"
            }
        throw JobFailure(
            .refused,
            "\(disk) is \(known.name), not a disk: are DISK and IMAGE swapped? \(instead); --as-disk captures it as the "
                + "bytes it has")
    }

    private func refuseDanger(_ source: OpenedDisk, _ destination: ImageDestination) throws {
        guard [512, 4096].contains(source.device.logicalSectorSize) else {
            throw JobFailure(
                .refused, "\(disk) has sectors of \(source.device.logicalSectorSize) bytes; 512 and 4096 are supported")
        }
        switch destination {
        case .stream: return
        case .file(let path), .repository(let path):
            if source.holds(path) {
                throw JobFailure(
                    .refused, "\(path) lies on \(disk), the disk that is to be captured: write to another disk")
            }
        }
    }

    private func capture(
        _ source: DiskSource, _ plan: CapturePlan, _ opened: OpenedDestination,
        clock: @escaping @Sendable () -> Int64
    ) throws -> CaptureExecutor.Outcome {
        let progress = Progress()
        let display = ProgressReporter(progress, Console.events)
        defer { display.end() }
        let left = Self.sentences(try ImageDestination(image, Console.events))
        do {
            return try opened.run(
                CaptureExecutor(source: source.reader, plan: plan, progress: progress, clock: clock),
                beforeEnd: { try source.check() })
        } catch {
            var failure = JobFailure(error)
            // Without an error number it is no bad sector: a snapshot without room, a disk that is shorter than it was.
            if case .block(let block)? = error as? ImagingError, block.operation == .read, block.errorNumber != 0,
                !rescue
            {
                failure.message += "; --rescue retries, reads around what cannot be read, and records the holes"
            }
            throw failure.followed(by: left)
        }
    }

    /// What a capture leaves behind that does not come to its end.
    private static func sentences(_ destination: ImageDestination) -> String {
        let left =
            switch destination {
            case .stream: "The stream is not an image"
            case .file(let path): "Nothing was left at \(path)"
            case .repository: "No snapshot was made; the same command goes on from what is stored already"
            }
        return "\(left); the disk was only read."
    }

    /// The headers of swap areas that hold a hibernation image, as plain swap.
    static func swapHeaders(_ survey: DiskSurvey, _ disk: any BlockReader) throws -> [UInt64: [UInt8]] {
        var headers: [UInt64: [UInt8]] = [:]
        for volume in survey.volumes where volume.filesystem.mapSource == .headerOnly {
            guard let header = volume.allocation.ranges.first, header.lowerBound == 0, header.byteCount <= 64 << 10
            else { continue }
            let bytes = try disk.readBytes(at: volume.range.lowerBound, count: Int(header.byteCount))
            let plain = SwapArea.plainHeader(bytes)
            if plain != bytes { headers[volume.range.lowerBound] = plain }
        }
        return headers
    }

    /// What will be captured, for a person.
    static func summary(_ manifest: Manifest) -> [String] {
        let rows = manifest.regions.filter { $0.kind != .gap }.map { region in
            [
                region.partition.map(String.init) ?? "-", region.filesystem?.kindName ?? "unknown",
                ByteText.rounded(region.range.byteCount), ByteText.rounded(region.usedByteCount),
                manifest.allSectors ? "every sector" : region.filesystem.map(TextTable.known) ?? "",
            ]
        }
        return TextTable.lines(["#", "HOLDS", "SIZE", "CAPTURED", "HOW KNOWN"], rows)
    }
}
