// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageStore
import Imaging
import LinuxSystem
import SystemPackage

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture", abstract: "Captures a whole disk into an image. The disk is only read.",
        discussion: """
            Filesystems that are understood (ext2/3/4, FAT, swap) are captured by their used sectors, everything else whole.
            The image appears under its name only when it is finished.

            Examples:

              reforge capture /dev/sda /mnt/backup/laptop.img.zst --note "before the upgrade"
              reforge capture /dev/sda - | ssh store 'cat > laptop.img.zst'

            JSON fields: schema (1), image, imageID, imageUUID, diskByteCount, usedByteCount, imageByteCount, seconds, \
            partitions [{number, filesystem, byteCount, usedByteCount, mapSource, wholeReason}], warnings.
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @Argument(help: "The image to write, or - for standard output.") var image: String
    @Option(help: "The zstd compression level, 1 to 19 (and up to 22 for those with time).") var level = 3
    @Flag(help: "Copy every sector, exactly.") var allSectors = false
    @Option(help: "The length of a chunk: a power of two from 64K to 64M.") var chunkSize = ByteSize(byteCount: 4 << 20)
    @Option(help: "A remark to keep in the image.") var note = ""
    @Flag(
        help:
            "Capture although a partition is mounted read-write; such partitions are copied whole, and may not be consistent."
    )
    var allowMounted = false
    @Flag(help: "Replace an image that exists.") var overwrite = false
    @Flag(help: "Print one JSON object (on standard error where the image goes to standard output).") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?

    func validate() throws {
        guard ZstdCompressor.levels.contains(level) else { throw ValidationError("--level takes 1 to 22") }
        guard let count = Int(exactly: chunkSize.byteCount), Manifest.isValidChunkByteCount(count) else {
            throw ValidationError("--chunk-size takes a power of two from 64K to 64M")
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
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let start = SystemFacts.monotonicSeconds()
            let source = try OpenedDisk(disk, .readOnly, sectorSize: sectorSize)
            try refuseDanger(source)
            if image == "-", SystemFacts.isTerminal(.standardOutput) {
                throw CommandFailure(.usage, "an image is not for a terminal: redirect standard output, or name a file")
            }
            // A disk and its partitions are cached apart: what was written through a partition's node must be seen here.
            if source.device.isDevice { source.device.dropCache(0..<source.device.byteCount) }
            let survey = try source.survey(allUsed: allSectors)
            let plan = CapturePlanner.plan(
                survey, tableBytes: try CapturedTable(reading: source.device, table: survey.table),
                options: CaptureOptions(
                    level: level, allSectors: allSectors, chunkByteCount: Int(chunkSize.byteCount), note: note),
                machine: .current(), mounted: source.mountPointsReadWrite, toolVersion: ProgramVersion.text,
                started: SystemFacts.utcText(SystemFacts.unixSeconds()),
                localOffsetSeconds: SystemFacts.localOffsetSeconds(),
                swapHeaders: try Self.swapHeaders(survey, source.device))
            let manifest = plan.header.manifest
            for line in Self.summary(manifest) { Console.message(line) }
            let output = try makeOutput()
            let outcome = try capture(source.device, plan, output)
            let report = Report(
                image: image, imageID: outcome.summary.id.description, imageUUID: "\(manifest.imageUUID)",
                diskByteCount: manifest.geometry.byteCount, usedByteCount: manifest.usedByteCount,
                imageByteCount: outcome.summary.storedByteCount, seconds: SystemFacts.monotonicSeconds() - start,
                partitions: manifest.regions.filter { $0.kind != .gap }.map {
                    .init(
                        number: $0.partition, filesystem: $0.filesystem?.kindName ?? "unknown",
                        byteCount: $0.range.byteCount, usedByteCount: $0.usedByteCount,
                        mapSource: $0.filesystem?.mapSource ?? .whole, wholeReason: $0.filesystem?.wholeReason)
                }, warnings: manifest.warnings)
            try show(report)
            return .done
        }
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
        let rate = Double(report.usedByteCount) / max(report.seconds, 0.001)
        let line =
            "captured \(ByteText.rounded(report.usedByteCount)) in use of \(ByteText.rounded(report.diskByteCount)) into "
            + "\(ByteText.rounded(report.imageByteCount)) in \(ProgressDisplay.duration(Int(report.seconds.rounded()))) "
            + "(\(ByteText.rounded(UInt64(rate)))/s), image id \(report.imageID.prefix(16))…"
        toError ? Console.message(line) : try Console.result(line)
    }

    private func refuseDanger(_ source: OpenedDisk) throws {
        let mounted = source.mountPointsReadWrite
        if !mounted.isEmpty, !allowMounted {
            throw CommandFailure(
                .refused,
                "\(disk) has filesystems that are mounted read-write: \(mounted.joined(separator: ", ")). Unmount them, or "
                    + "capture from the recovery medium; --allow-mounted captures all the same (those partitions whole, and "
                    + "possibly not consistent)")
        }
        // What the mount table does not name (a member of a larger filesystem, another mount namespace) the kernel knows.
        if !allowMounted, source.uses.isEmpty, source.isHeld {
            throw CommandFailure(
                .refused,
                "\(disk) is in use, and its contents may change: stop what uses it, or capture it all the same with "
                    + "--allow-mounted")
        }
        guard [512, 4096].contains(source.device.logicalSectorSize) else {
            throw CommandFailure(
                .refused, "\(disk) has sectors of \(source.device.logicalSectorSize) bytes; 512 and 4096 are supported")
        }
        guard image != "-" else { return }
        if let status = try? Stat(FilePath(image)), status.type != .regular {
            throw CommandFailure(.cannotCreate, "\(image) is not a file, and an image is one: choose another name")
        }
        if Files.exists(FilePath(image)), !overwrite {
            throw CommandFailure(.cannotCreate, "\(image) exists: choose another name, or replace it with --overwrite")
        }
        if source.holds(FilePath(image)) {
            throw CommandFailure(
                .refused, "\(image) lies on \(disk), the disk that is to be captured: write the image to another disk")
        }
    }

    private func makeOutput() throws -> ImageOutput {
        if image == "-" { return ImageOutput() }
        do { return try ImageOutput(FilePath(image), overwrite: overwrite) } catch {
            throw CommandFailure(.cannotCreate, "\(error)")
        }
    }

    private func capture(
        _ device: BlockDevice, _ plan: CapturePlan, _ output: ImageOutput
    ) throws -> CaptureExecutor.Outcome {
        let progress = Progress()
        let display = ProgressDisplay(progress)
        defer { display.end() }
        do {
            let writer = try ImageWriter(to: output.descriptor, name: output.name, header: plan.header)
            let outcome = try CaptureExecutor(source: device, plan: plan, progress: progress).run(writer)
            try output.commit()
            return outcome
        } catch {
            let failure = CommandFailure(error)
            let isFile = image != "-"
            throw CommandFailure(
                failure.status,
                "\(failure.message). \(isFile ? "Nothing was left at \(image); " : "The stream is not an image; ")the disk was only read."
            )
        }
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
