// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskEditing
import DiskImages
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Where a compressed disk is decompressed, so that it can be surveyed and resized.
package enum DiskScratchChoice: Equatable {
    /// Beside the file, or in the folder for temporary files; images of other tools are streamed where that is possible.
    case usual
    /// The folders of `usual`, also for what could be streamed.
    case always
    case folder(FilePath)
    /// Nowhere: nothing may be written.
    case none

    /// The choice where a scratch is needed.
    var required: DiskScratchChoice { self == .usual ? .always : self }
}

/// A disk in a file, opened as the recording of it.
struct RecordedDisk {
    let recording: DiskRecording
    let file: any DiskFile
    /// The claim that detects writes to a plain file.
    let claim: Claim?
    /// The disk if it is a kept overlay, which shares the names of its base in a repository.
    let overlay: OverlayDisk?

    /// What tells zeros of the disk without reading them.
    var zeros: PlannedDisk.Zeros {
        if let disk = file.extentSource { return .extents(disk) }
        return file.descriptor.map { .sparseFile($0) } ?? .unknown
    }

    /// - Throws: `JobFailure` if the disk is mounted, or an interrupted restore left it without a partition table;
    ///   `ImagingError.noRoom` if the requested folder cannot hold a file.
    init(_ path: FilePath, _ format: DiskFormat, scratch: DiskScratchChoice, _ keys: KeyRing) throws {
        let events = keys.events
        claim = format.isPlain || format.isVirtual ? try Self.claimed(path.string, events) : nil
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        let byteCount = try FileBytes(path).byteCount
        var request = DiskRequest(
            path, scratch: format.isPlain ? nil : try Self.folder(scratch, path), cancellation: keys.cancellation,
            log: events.log, progress: { progress.show("decompress", done: $0, total: byteCount) })
        request.allowsBacking = keys.allowsBacking
        request.memoryReserve = RestoreScratch.memoryReserve(chunkByteCount: DiskRecording.chunkByteCount)
        let record = format.isVirtual ? try OverlayRecord.find(path) : nil
        overlay = try record.map { try OverlayDisk(path, $0, keys) }
        let disk: any DiskFile = try overlay ?? format.open(request)
        file = disk
        let confirmEnd: () throws(ImageError) -> Void = { () throws(ImageError) in try disk.confirmEnd() }
        let survey = try RecordedSurvey(
            disk: disk, path: path, isInspected: scratch == .none, uuid: nil, events: events)
        try Self.refuseImage(in: survey.head, path, name: format.name)
        let source = survey.source
        let plan = try survey.plan()
        do throws(ImageError) {
            recording = try DiskRecording(
                plan, of: source, failure: { disk.failure }, confirmEnd: confirmEnd)
        } catch {
            guard case .foreign(_, let why) = error else { throw error }
            recording = try DiskRecording(
                try survey.verbatim(because: why), of: source, failure: { disk.failure }, confirmEnd: confirmEnd)
        }
    }

    /// Refuses an image in an image. A raw image is taken by its name, whatever it contains.
    static func refuseImage(in head: DiskHeadReader, _ path: FilePath, name: String) throws {
        guard let known = KnownImage.identify(head: Array(head.bytes.prefix(512))) else { return }
        throw JobFailure(
            .badImage,
            "\(path) is not a \(name): it contains \(known.name). Give that one, under a name that says what it is "
                + "(NAME.qcow2), or convert it with its own tool (qemu-img convert -O raw)")
    }

    /// The folder for the decompressed disk: the requested one, which must be able to hold a file, or the first of the
    /// usual ones that can.
    static func folder(_ choice: DiskScratchChoice, _ path: FilePath) throws -> FilePath? {
        switch choice {
        case .none: return nil
        case .usual, .always:
            let usual = [
                try RestoreScratch.folder(nil, image: path, isEncrypted: false), Files.temporaryFolder,
            ]
            return usual.first { (try? Files.openNameless(in: $0)) != nil }
        case .folder(let asked):
            do { _ = try Files.openNameless(in: asked) } catch {
                throw ImagingError.noRoom(
                    "\(asked) cannot hold the decompressed disk (\(error)): name another folder with --scratch")
            }
            return asked
        }
    }

    /// Claims a plain file like a disk: it may belong to a virtual machine.
    private static func claimed(_ text: String, _ events: any EventSink) throws -> Claim {
        let disk = try OpenedDisk(text, .readOnly)
        let places = disk.mountPointsReadWrite
        guard places.isEmpty else {
            throw JobFailure(
                .refused,
                "\(text) has filesystems that are mounted read-write: \(places.joined(separator: ", ")). Unmount them first"
            )
        }
        return try disk.claimSource(events)
    }
}

/// The survey of a disk in a file, as the plan of a recording.
struct RecordedSurvey {
    let disk: any DiskFile
    /// The disk with its sector size.
    let source: ResectoredReader
    let head: DiskHeadReader
    let path: FilePath
    /// Whether the manifest is all that is wanted: its warnings are shown, and need no events.
    let isInspected: Bool
    /// The identity; `nil` for that of the file.
    let uuid: GUID?
    let events: any EventSink

    /// - Parameter head: the first bytes; `nil` to read them from the disk.
    init(
        disk: any DiskFile, path: FilePath, isInspected: Bool, uuid: GUID?, events: any EventSink,
        head known: DiskHeadReader? = nil
    ) throws {
        self.disk = disk
        self.path = path
        self.isInspected = isInspected
        self.uuid = uuid
        self.events = events
        head = try known ?? DiskHeadReader(of: disk)
        let sectorSize =
            try disk.statedSectorSize
            ?? ResectoredReader.guessed(disk.isRandomAccess ? disk : head).logicalSectorSize
        source = ResectoredReader(disk, logicalSectorSize: sectorSize)
    }

    private var identity: DiskIdentity { DiskIdentity(path: path.string, transport: "file") }
    private var geometry: DiskGeometry {
        DiskGeometry(
            byteCount: disk.byteCount, logicalSectorSize: source.logicalSectorSize,
            physicalSectorSize: source.logicalSectorSize)
    }

    func plan() throws -> CapturePlan {
        // Its journal is in the first 132 KiB.
        if let found = try InterruptedRestore(on: head) {
            throw JobFailure(.refused, "\(path) holds \(found), and is no image: finish that restore first")
        }
        if let why = verbatimReason { return try verbatim(because: why) }
        let survey = try DiskSurveyor.survey(
            source, identity: identity, geometry: geometry, descriptor: disk.descriptor)
        // The rest of the disk may be all that is left of it.
        if let found = try InterruptedRestore(on: source, survey.volumes) {
            events.warn("interrupted-restore", "\(path) holds \(found): no filesystem is there")
        }
        let swapHeaders = try CaptureOperation.swapHeaders(survey, source)
        let emptyGaps = try CapturePlanner.longGaps(survey).filter { try source.isZero($0) }
        if !isInspected {
            for warning in survey.warnings { events.warn("disk-in-file", "\(path): \(warning)") }
            for volume in survey.volumes where swapHeaders[volume.range.lowerBound] != nil {
                for remark in volume.filesystem.remarks {
                    events.warn("disk-in-file", "\(path): the swap at byte \(volume.range.lowerBound) \(remark)")
                }
            }
        }
        return CapturePlanner.recording(
            of: survey, tableBytes: try CapturedTable(reading: source, table: survey.table), swapHeaders: swapHeaders,
            leftOut: .zeros(emptyGaps), try facts(isVerbatim: false))
    }

    /// A plan that keeps every byte.
    func verbatim(because why: String) throws -> CapturePlan {
        if !isInspected {
            events.warn("verbatim", "\(path) is kept as it is, byte by byte, and cannot be resized: \(why)")
        }
        let table = try? PartitionTableReader.read(
            ResectoredReader(head, logicalSectorSize: source.logicalSectorSize))
        return CapturePlanner.verbatimRecording(
            of: identity, geometry, table: table ?? PartitionTable(kind: .unknown, usable: 0..<disk.byteCount),
            try facts(isVerbatim: true, because: why))
    }

    /// Why every byte must be kept; `nil` for a disk that is surveyed and mapped.
    private var verbatimReason: String? {
        // ECMA-119 §8.1: the volume descriptors start at sector 16 of 2048 bytes. The disk of an ISO 9660 file is one
        // read-only filesystem whose partition table names parts of it.
        if head.bytes.dropFirst(16 * 2048 + 1).starts(with: Array("CD001".utf8)) { return "it is an ISO 9660 image" }
        if !disk.isRandomAccess {
            return isInspected
                ? "it is compressed, and inspecting it decompresses only its first MiB"
                : "there was too little space to decompress it (restore takes a folder with more: --scratch)"
        }
        return nil
    }

    /// The file's own facts. The identity is the same each time the file is opened, so that an interrupted restore
    /// continues with it.
    private func facts(isVerbatim: Bool, because why: String = "") throws -> CapturePlanner.RecordingFacts {
        let file = disk.file
        // What is only shown has the id that a restore will most likely give it.
        var facts = Array((isVerbatim && !isInspected ? "reforge verbatim disk image" : "reforge disk image").utf8)
        for number in [
            disk.byteCount, file.byteCount, UInt64(bitPattern: file.changed.seconds),
            UInt64(bitPattern: file.changed.nanoseconds),
        ] + disk.facts { facts.appendLittleEndian(number) }
        let uuid = try uuid ?? GUID(bigEndianBytes: Array(ContentHash(of: facts + head.bytes).bytes.prefix(16)))
        var warnings: [String] = []
        if disk.hasUncheckedParts {
            warnings.append("\(path) has no checksums for some or all of its contents: damage there is not detected")
        }
        if isInspected, isVerbatim { warnings.append("\(path) is shown as one range of bytes: \(why)") }
        return .init(uuid: uuid, changed: file.changed.seconds, warnings: warnings)
    }
}

extension BlockReader {
    /// Whether all bytes of a range are zero; the first other one ends the search.
    fileprivate func isZero(_ range: ByteRange) throws(BlockIOError) -> Bool {
        var position = range.lowerBound
        while position < range.upperBound {
            let piece = try readBytes(at: position, count: Int(min(1 << 20, range.upperBound - position)))
            guard piece.withUnsafeBytes(ZeroTest.isZero) else { return false }
            position += UInt64(piece.count)
        }
        return true
    }
}
