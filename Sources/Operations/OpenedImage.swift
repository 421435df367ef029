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

    /// The recording of a raw image or a disk, or of images of another tool.
    private let recording: DiskRecording?
    /// Ranges of the disk that are in its table, but have no image; lost, as the caller has accepted.
    package let missing: [ByteRange]
    /// Whether it is read as a stream of another tool's images, and `DiskScratchChoice.always` would tell more of it.
    package let isStreamed: Bool
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
    ///   - disk: the disk's name in a folder of another tool that holds several.
    package static func open(
        _ text: String, _ keys: KeyRing, operation: RepositoryOperation = .restore, salvages: Bool = false,
        scratch: DiskScratchChoice = .usual, disk: String? = nil
    ) throws -> OpenedImage {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: try OpenedImage(pipe: keys)
        case .snapshot(let address): try OpenedImage(address, keys, operation)
        case .path, .volume, .http:
            try OpenedImage(file: text, keys, salvages: salvages, scratch: scratch, disk: disk)
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
        (missing, isStreamed) = (other.missing, other.isStreamed)
        clone = other.clone
    }

    /// A disk as its recording, for a restore onto another disk.
    init(_ disk: ClonedDisk) {
        text = disk.opened.identity.path
        (reader, recording, clone, held) = (disk.recording, disk.recording, disk, [disk.source])
        (missing, isStreamed) = ([], false)
        (ending, path, exactText, snapshot, byteCount, claim) = (nil, nil, nil, nil, nil, nil)
    }

    private init(pipe keys: KeyRing) throws {
        text = "-"
        let opened = try RecordingFormat.openStandardInput(cancellation: keys.cancellation, unlock: keys.imageKeys)
        (reader, ending, held) = (opened.reader, opened.ending, opened.held)
        (path, exactText, snapshot, byteCount, recording, claim) = (nil, nil, nil, nil, nil, nil)
        (missing, isStreamed) = ([], false)
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
        (missing, isStreamed) = ([], false)
    }

    /// A reader that continues past damage, with the losses of parts without an image.
    package func salvageReader(_ salvage: Salvage) throws -> SalvageReader {
        try noteMissing(in: salvage)
        return SalvageReader(reader, salvage)
    }

    /// Records the parts without an image as lost.
    func noteMissing(in salvage: Salvage) throws {
        let error = ImageError.damaged(
            name: text, what: "a part of the disk has no image", fileOffset: 0, disk: nil, partition: nil)
        for range in missing { try salvage.lose(range, hash: nil, because: error) }
    }

    private init(file text: String, _ keys: KeyRing, salvages: Bool, scratch: DiskScratchChoice, disk name: String?)
        throws
    {
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
            (missing, isStreamed) = ([], false)
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
            (missing, isStreamed) = ([], false)
        case .foreign(let format):
            let opened = try RecordedForeign(path, format, disk: name, scratch: scratch, salvages: salvages, keys)
            (reader, recording, claim) = (opened.recording, opened.recording, nil)
            (ending, held) = (nil, [])
            (missing, isStreamed) = (opened.missing, opened.isStreamed)
        case .unknown(let why):
            throw ImageError.foreign(name: text, why: why)
        }
    }
}
