// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskImages
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// The opened source of a capture, for every IMAGE argument: a Reforge image (plain, encrypted, .img.xz), a snapshot of
/// a repository, a raw image of another tool, or standard input.
package struct OpenedImage {
    /// The argument.
    package let text: String
    package let reader: any ImageReader
    /// The ending, if it is known before everything is read.
    package let ending: ImageEnding?
    /// The file or folder that holds it; `nil` for standard input and remote stores.
    package let path: FilePath?
    /// Its name for opening it again, with the id of the snapshot: `latest` may mean another one by then. `nil` for
    /// standard input.
    package let exactText: String?
    /// The snapshot that it is.
    package let snapshot: Snapshot?
    /// The length of the file; `nil` for a snapshot and standard input.
    package let byteCount: UInt64?
    /// Descriptors and locks that must live as long as the reader.
    private let held: [AnyObject]
    /// The claim that detects writes to a raw image.
    private let claim: Claim?

    /// The recording of a raw image or a disk.
    private let recording: DiskRecording?
    /// The disk that is read as its recording; `nil` for an image.
    package private(set) var clone: ClonedDisk?

    /// Fails if a raw image was written while it was read.
    package func checkHeldStill() throws(ImagingError) {
        guard let change = claim?.change() else { return }
        throw .failed("\(text) did not hold still: \(change) while it was read. Stop what writes it, and copy it again")
    }

    /// Has the reader used for as long as what it reads from is held: a reader knows no more than the descriptor's number.
    package func reading<Value>(_ body: (any ImageReader) throws -> Value) rethrows -> Value {
        try withExtendedLifetime(self) { try body(reader) }
    }

    /// Opens an image or a snapshot, and checks everything that does not need all of its data.
    /// - Parameters:
    ///   - salvages: takes an image with a damaged or missing end, for a `SalvageReader`.
    ///   - scratch: where a compressed disk is decompressed.
    package static func open(
        _ text: String, _ keys: KeyRing, operation: RepositoryOperation = .restore, salvages: Bool = false,
        scratch: DiskScratchChoice = .usual
    ) throws -> OpenedImage {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: try OpenedImage(pipe: keys)
        case .snapshot(let address): try OpenedImage(address, keys, operation)
        case .path, .volume, .http:
            try OpenedImage(file: text, keys, salvages: salvages, scratch: scratch)
        }
    }

    /// The image from its start, for a raw image or a disk; `nil` if it must be opened again.
    package func again() throws -> OpenedImage? {
        try recording.map { OpenedImage(self, reading: try $0.again()) }
    }

    private init(_ other: OpenedImage, reading again: DiskRecording) {
        (text, path, exactText) = (other.text, other.path, other.exactText)
        (snapshot, byteCount) = (other.snapshot, other.byteCount)
        (reader, ending, recording, claim, held) = (again, nil, again, other.claim, other.held)
        clone = other.clone
    }

    /// A disk as its recording, for a restore onto another disk.
    init(_ disk: ClonedDisk) {
        text = disk.opened.identity.path
        (reader, recording, clone, held) = (disk.recording, disk.recording, disk, [disk.source])
        (ending, path, exactText, snapshot, byteCount, claim) = (nil, nil, nil, nil, nil, nil)
    }

    private init(pipe keys: KeyRing) throws {
        text = "-"
        let opened = try RecordingFormat.openStandardInput(cancellation: keys.cancellation, unlock: keys.imageKeys)
        (reader, ending, held) = (opened.reader, opened.ending, opened.held)
        (path, exactText, snapshot, byteCount, recording, claim) = (nil, nil, nil, nil, nil, nil)
    }

    private init(_ selector: SnapshotAddress, _ keys: KeyRing, _ operation: RepositoryOperation) throws {
        text = selector.text
        let (repository, lock) = try OpenedRepository.open(selector.repository, keys, operation)
        let found = try OpenedRepository.find(selector, in: repository, keys.events)
        reader = try repository.reader(found)
        ending = ImageEnding(id: found.info.id, lateFacts: found.lateFacts)
        path = Stores.isFolder(selector.repository) ? FilePath(selector.repository) : nil
        exactText = "\(Stores.normalized(selector.repository))@\(found.info.id)"
        (snapshot, byteCount, held) = (found, nil, [repository, lock])
        (recording, claim) = (nil, nil)
    }

    private init(file text: String, _ keys: KeyRing, salvages: Bool, scratch: DiskScratchChoice) throws {
        self.text = text
        SnapshotAddress.noteHidden(by: text, keys.events)
        let path = FilePath(text)
        self.path = path
        exactText = text
        snapshot = nil
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", text, error) }
        byteCount = status.type == .regular ? UInt64(max(0, status.size)) : nil
        switch try FileContents.detect(path) {
        case .recording(let format):
            let opened = try format.open(
                RecordingRequest(path, salvages: salvages, cancellation: keys.cancellation, unlock: keys.imageKeys))
            (reader, ending, held) = (opened.reader, opened.ending, opened.held)
            (recording, claim) = (nil, nil)
        case .disk(let format):
            guard !salvages else {
                throw JobFailure(
                    .usage,
                    "\(text) is not a Reforge image: --salvage needs the checksums that a Reforge image records"
                )
            }
            let disk = try RecordedDisk(path, format, scratch: scratch, keys)
            (reader, recording, claim) = (disk.recording, disk.recording, disk.claim)
            (ending, held) = (nil, [])
        case .unknown(let why):
            throw ImageError.foreign(name: text, why: why)
        }
    }
}
