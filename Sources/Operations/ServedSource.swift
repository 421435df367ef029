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
import NBD
import ObjectStore
import Repository
import SystemPackage

/// An IMAGE, SNAPSHOT or DISK of the command line, opened for random access. Bytes that are not in use read as zeros,
/// as in its capture. It holds its locks and descriptors as long as it lives.
package struct ServedSource {
    package let disk: any ServedDisk
    /// The manifest and the maps.
    package let header: ImageHeader
    /// The argument.
    package let text: String
    /// The id of an image or a snapshot; `nil` for a disk.
    package let imageID: ContentHash?
    /// Signs what is said about it: keyed for an encrypted image.
    package let identity: ChunkIdentity
    /// Its name for opening it again, with the id of a snapshot: `latest` may mean another one by then.
    package let exactText: String?
    /// The ranges that could not be read when an image or a snapshot was captured.
    package let unreadable: [ByteRange]
    private let held: [AnyObject]
    private let capture: CaptureDisk?
    /// The claim that detects writes to a disk or a plain file.
    private let claim: Claim?

    /// The first damage of an image or a snapshot that a read has found.
    package var damage: ImageError? { capture?.failure }

    /// Fails if a disk was written while it was read.
    package func checkHeldStill() throws(ImagingError) {
        guard let change = claim?.change() else { return }
        throw .failed(
            "\(text) did not hold still: \(change) while it was read, and what was read mixes two states. Stop what "
                + "writes it, and read it again")
    }

    /// Opens an image, a snapshot or a disk; reads indexes and metadata, no data of a capture.
    /// - Parameter scratch: where a compressed disk is decompressed.
    package static func open(
        _ text: String, _ keys: KeyRing, scratch: DiskScratchChoice = .usual
    ) throws -> ServedSource {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: throw pipeRefusal("standard input")
        case .snapshot(let address): return try ServedSource(address, keys)
        case .path, .volume, .http:
            let status: Stat
            do { status = try Stat(FilePath(text)) } catch { throw SystemCallError("open", text, error) }
            switch status.type {
            case .blockSpecial: return try ServedSource(device: text, keys)
            case .regular, .directory: return try ServedSource(file: text, keys, scratch)
            default: throw pipeRefusal(text)
            }
        }
    }

    private static func pipeRefusal(_ text: String) -> JobFailure {
        JobFailure(
            .usage,
            "\(text) has no random access: only a file, a snapshot or a block device can be read at any place. Store it "
                + "in a file first")
    }

    private init(_ index: any CaptureIndex, _ text: String, exactText: String, held: [AnyObject] = []) {
        let capture = CaptureDisk(index)
        (disk, self.capture) = (capture, capture)
        header = index.header
        (self.text, self.exactText) = (text, exactText)
        imageID = index.ending.id
        identity = index.coding.identity
        unreadable = index.ending.lateFacts.unreadable
        self.held = held
        claim = nil
    }

    private init(_ planned: PlannedDisk, _ text: String, _ claim: Claim?, unreadable: [ByteRange] = []) {
        (disk, capture) = (planned, nil)
        header = planned.header
        (self.text, exactText) = (text, text)
        (imageID, identity) = (nil, .plain)
        self.unreadable = unreadable
        held = []
        self.claim = claim
    }

    private init(_ selector: SnapshotAddress, _ keys: KeyRing) throws {
        let (repository, lock) = try OpenedRepository.open(selector.repository, keys, .restore)
        let found = try OpenedRepository.find(selector, in: repository, keys.events)
        self.init(
            try repository.index(found), selector.text,
            exactText: "\(Stores.normalized(selector.repository))@\(found.info.id)", held: [repository, lock])
    }

    private init(file text: String, _ keys: KeyRing, _ scratch: DiskScratchChoice) throws {
        SnapshotAddress.noteHidden(by: text, keys.events)
        let path = FilePath(text)
        switch try FileContents.detect(path) {
        case .recording(let format):
            guard let index = format.index else {
                throw JobFailure(
                    .usage,
                    "\(text) (\(format.name)) can only be read front to back. Make an image of it, which has random "
                        + "access: reforge copy \(text) OTHER.img.zst")
            }
            let request = RecordingRequest(path, cancellation: keys.cancellation, unlock: keys.imageKeys)
            self.init(try index(request), text, exactText: text)
        case .disk(let format):
            let disk = try RecordedDisk(path, format, scratch: scratch, keys)
            guard disk.file.isRandomAccess else {
                throw JobFailure(
                    .cannotCreate,
                    "\(text) is compressed, and there is too little space to decompress it: make room beside it or in "
                        + "\(Files.temporaryFolder)")
            }
            self.init(disk.recording.planned(sparse: disk.file.descriptor), text, disk.claim)
        case .foreign(let format):
            let opened = try RecordedForeign(path, format, disk: nil, scratch: scratch.required, salvages: true, keys)
            self.init(opened.recording.planned(sparse: opened.sparse), text, nil, unreadable: opened.missing)
        case .unknown(let why): throw ImageError.foreign(name: text, why: why)
        }
    }

    private init(device text: String, _ keys: KeyRing) throws {
        let opened = try OpenedDisk(text, .readOnly)
        if let known = try opened.knownImage {
            throw JobFailure(.refused, "\(text) is \(known.name), not a disk: store it in a file, and give that")
        }
        // The caches of a disk and of its partitions are separate: data written through a partition's node must be seen
        // here.
        opened.device.dropCache(0..<opened.device.byteCount)
        let places = opened.mountPointsReadWrite
        guard places.isEmpty else {
            throw JobFailure(
                .refused,
                "\(text) has filesystems that are mounted read-write: \(places.joined(separator: ", ")). Unmount them "
                    + "first, or capture it and give the image")
        }
        guard !opened.isHeldByUnknown else {
            throw JobFailure(
                .refused, "\(text) is in use, and its contents may change: stop what uses it, and try again")
        }
        let claim = try opened.claimSource(keys.events)
        let survey = try opened.survey()
        if let found = try InterruptedRestore(on: opened.device, survey.volumes) {
            throw JobFailure(.refused, "\(text) holds \(found), and is no whole disk: finish that restore first")
        }
        for warning in survey.warnings { keys.events.warn("disk", "\(text): \(warning)") }
        // A gap is read only when it is asked for: a disk can have terabytes of them.
        let plan = CapturePlanner.recording(
            of: survey, tableBytes: try CapturedTable(reading: opened.device, table: survey.table),
            swapHeaders: try CaptureOperation.swapHeaders(survey, opened.device),
            CapturePlanner.RecordingFacts(uuid: .random(), changed: SystemFacts.unixSeconds()))
        self.init(PlannedDisk(plan, of: opened.device), text, claim)
    }
}
