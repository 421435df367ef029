// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Images of the parts of a disk, made by another tool, opened as the recording of that disk.
///
/// The streams are read once, in the order of the disk, without a temporary file. With a scratch folder they are
/// decompressed into a sparse file first, so that the filesystems can be surveyed like those of a disk, and made smaller.
struct RecordedForeign {
    let recording: DiskRecording
    /// The used ranges without an image.
    let missing: [ByteRange]
    /// Whether it is read as a stream: a scratch would tell the least sizes of its filesystems.
    let isStreamed: Bool
    /// The descriptor of the scratch file, whose holes are zeros; `nil` also where some are parts without an image.
    let sparse: Int32?

    /// - Parameters:
    ///   - disk: the disk's name in a folder with several.
    ///   - salvages: whether parts without an image, and damaged ones, are accepted as losses.
    /// - Throws: `JobFailure` for a folder with several disks, and for parts without an image that are not accepted.
    init(
        _ path: FilePath, _ format: FolderFormat, disk name: String?, scratch: DiskScratchChoice, salvages: Bool,
        _ keys: KeyRing
    ) throws {
        let events = keys.events
        let foreign = try format.open(path, try Self.disk(name, of: try format.disks(path), path))
        let isInspected = scratch == .none
        let contents = try ForeignContents(
            foreign, keys.cancellation, salvages: salvages, readsAhead: salvages && scratch == .usual)
        let survey = try ForeignSurvey(contents)
        if !isInspected {
            for warning in survey.warnings { events.warn("foreign-image", "\(path): \(warning)") }
            if !survey.missing.isEmpty, !salvages { throw Self.refusal(survey.missing, path) }
        }
        let known = AllocationMap(byteCount: contents.byteCount, unsorted: survey.missing.flatMap(\.ranges))
        let spooled = try Self.spooled(contents, known, salvages: salvages, scratch, path, keys)
        let missing = survey.missing + (spooled?.damaged ?? [])
        for part in missing
        where !isInspected && !survey.warnings.contains(where: { $0.hasPrefix("\(part.label) is missing") }) {
            events.warn("foreign-image", "\(path): \(part.label) is lost: \(part.reason)")
        }
        self.missing = missing.flatMap(\.ranges)
        let unreadable =
            missing.isEmpty ? nil : AllocationMap(byteCount: contents.byteCount, unsorted: self.missing)
        if let spooled {
            (isStreamed, sparse) = (false, unreadable == nil ? spooled.descriptor : nil)
            let source = try RecordedSurvey(
                disk: spooled, path: path, isInspected: false, uuid: survey.uuid(isStreamed: false), events: events,
                // A part without an image may be there.
                head: DiskHeadReader(of: contents.head))
            let plan = try Self.plan(source, survey, hasLosses: unreadable != nil)
            recording = try DiskRecording(
                plan, of: source.source, unreadable: unreadable, confirmEnd: { () throws(ImageError) in })
            return
        }
        (isStreamed, sparse) = (true, nil)
        recording = try DiskRecording(
            try survey.plan(), of: contents, failure: { contents.failure }, unreadable: unreadable, passesDamage: true,
            confirmEnd: { () throws(ImageError) in try contents.confirmEnd() })
    }

    /// The plan by the survey of the scratch file; by the first bytes where losses keep that from being surveyed.
    private static func plan(
        _ source: RecordedSurvey, _ survey: ForeignSurvey, hasLosses: Bool
    ) throws -> CapturePlan {
        do {
            var plan = try source.plan()
            survey.cut(&plan)
            plan.header.manifest.warnings += survey.warnings
            return plan
        } catch is BlockIOError where hasLosses { return try survey.plan() }
    }

    private static func disk(_ name: String?, of names: [String], _ path: FilePath) throws -> String {
        let list = names.map(\.printable).joined(separator: ", ")
        if let name {
            guard names.contains(name) else {
                throw JobFailure(.notFound, "\(path) holds no disk \(name), but: \(list)")
            }
            return name
        }
        guard let first = names.first else { throw JobFailure(.badImage, "\(path) holds no disk") }
        guard names.count == 1 else {
            throw JobFailure(
                .ambiguous,
                "\(path) holds several disks: \(list). Take one into an image: reforge import \(path) IMAGE --disk \(first.printable)"
            )
        }
        return first
    }

    private static func refusal(_ missing: [ForeignContents.Missing], _ path: FilePath) -> JobFailure {
        let parts = missing.map { "\($0.label.printable) (\($0.reason.printable))" }.joined(separator: "; ")
        return JobFailure(
            .badImage,
            "\(path) has no image of: \(parts). --salvage takes the rest: what is missing becomes zeros, is listed as lost, and "
                + "the exit code is \(ExitStatus.badImage.rawValue)")
    }

    /// The disk in a scratch file; `nil` if it is streamed.
    private static func spooled(
        _ contents: ForeignContents, _ unreadable: AllocationMap, salvages: Bool, _ choice: DiskScratchChoice,
        _ path: FilePath, _ keys: KeyRing
    ) throws -> ForeignDiskFile? {
        // Volumes whose extents do not ascend would be decompressed again for each step back.
        guard choice != .none, choice != .usual || !contents.isAscending else { return nil }
        guard let folder = try RecordedDisk.folder(choice, path) else {
            throw ImagingError.noRoom("no folder can hold the contents of \(path): name one with --scratch")
        }
        let (progress, events) = (Progress(), keys.events)
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        events.log("reading \(path) once into \(folder), to survey its filesystems")
        let total = contents.storedByteCount
        let spooled = try ForeignDiskFile(
            contents, unreadable: unreadable, salvages: salvages, in: folder,
            memoryReserve: RestoreScratch.memoryReserve(chunkByteCount: DiskRecording.chunkByteCount),
            progress: { progress.show("decompress", done: $0, total: total) })
        guard let spooled else {
            throw ImagingError.noRoom(
                "\(folder) has too little room for the contents of \(path), \(ByteText.rounded(contents.used.usedByteCount)): "
                    + "name a folder with more (--scratch)")
        }
        return spooled
    }
}
