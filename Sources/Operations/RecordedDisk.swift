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

/// A disk in a file, opened as a recording.
struct RecordedDisk {
    let recording: DiskRecording
    /// The claim that detects writes to a plain file.
    let claim: Claim?

    /// - Parameter scratch: the requested folder for scratch files.
    /// - Throws: `JobFailure` if the disk is mounted, or an interrupted restore left it without a partition table.
    init(_ path: FilePath, _ format: DiskFormat, scratch: FilePath?, _ keys: KeyRing) throws {
        let events = keys.events
        claim = format.isPlain ? try Self.claimed(path.string, events) : nil
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        let byteCount = try FileBytes(path).byteCount
        let disk = try format.open(
            DiskRequest(
                path, scratch: try RestoreScratch.folder(scratch, image: path, isEncrypted: false),
                cancellation: keys.cancellation, log: events.log,
                progress: { progress.show("decompress", done: $0, total: byteCount) }))
        let plan = try Self.plan(disk, path, format, events)
        recording = try DiskRecording(
            plan, of: disk, failure: { disk.failure }, confirmEnd: { () throws(ImageError) in try disk.confirmEnd() })
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

    private static func plan(
        _ disk: any DiskFile, _ path: FilePath, _ format: DiskFormat, _ events: any EventSink
    ) throws -> CapturePlan {
        if disk.isRandomAccess, let found = try InterruptedRestore(on: disk) {
            throw JobFailure(.refused, "\(path) holds \(found), not an image: finish that restore first")
        }
        let head = try DiskHeadReader(of: disk)
        let verbatim = verbatimReason(disk, head)
        let identity = DiskIdentity(path: path.string, transport: "file")
        let geometry = DiskGeometry(
            byteCount: disk.byteCount, logicalSectorSize: disk.logicalSectorSize,
            physicalSectorSize: disk.logicalSectorSize)
        let facts = try facts(disk, path, head.bytes, isVerbatim: verbatim != nil)
        if let verbatim {
            events.warn("verbatim", "\(path) is restored byte by byte and cannot be resized: \(verbatim)")
            let table = try? PartitionTableReader.read(head)
            return CapturePlanner.verbatimRecording(
                of: identity, geometry, table: table ?? PartitionTable(kind: .unknown, usable: 0..<disk.byteCount),
                facts)
        }
        let survey = try DiskSurveyor.survey(
            disk, identity: identity, geometry: geometry, descriptor: disk.descriptor)
        // Only a warning: the other contents may be the last copy.
        if let found = try InterruptedRestore(on: disk, survey.volumes) {
            events.warn("interrupted-restore", "\(path) holds \(found): no filesystem is there")
        }
        return CapturePlanner.recording(
            of: survey, tableBytes: try CapturedTable(reading: disk, table: survey.table),
            swapHeaders: try CaptureOperation.swapHeaders(survey, disk), facts)
    }

    /// Why a disk is restored byte by byte; `nil` if it is surveyed and mapped.
    private static func verbatimReason(_ disk: any DiskFile, _ head: DiskHeadReader) -> String? {
        // ECMA-119 §8.1: the volume descriptors start at sector 16 of 2048 bytes. An ISO 9660 image is one read-only
        // filesystem; its partition table refers to parts of it.
        if head.bytes.dropFirst(16 * 2048 + 1).starts(with: Array("CD001".utf8)) { return "it is an ISO 9660 image" }
        if !disk.isRandomAccess {
            return "there was too little space to decompress it; give a folder with more space with --scratch"
        }
        return nil
    }

    private static func facts(
        _ disk: any DiskFile, _ path: FilePath, _ head: [UInt8], isVerbatim: Bool
    ) throws -> CapturePlanner.RecordingFacts {
        let file = try FileBytes(path)
        var facts = Array((isVerbatim ? "reforge verbatim disk image" : "reforge disk image").utf8)
        for number in [
            disk.byteCount, file.byteCount, UInt64(bitPattern: file.changed.seconds),
            UInt64(bitPattern: file.changed.nanoseconds),
        ] { facts.appendLittleEndian(number) }
        let uuid = try GUID(bigEndianBytes: Array(ContentHash(of: facts + head).bytes.prefix(16)))
        return .init(
            uuid: uuid, changed: file.changed.seconds,
            warnings: disk.hasUncheckedParts
                ? ["\(path) has no checksums for some or all of its contents: damage there is not detected"] : [])
    }
}
