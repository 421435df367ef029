// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskImages
import DiskModel
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
    /// Its names in a repository: those of the snapshot, or those that a capture or a copy of it would give.
    let names: () throws -> CapturedHost
    /// The ranges that could not be read when an image or a snapshot was captured.
    package let unreadable: [ByteRange]
    private let held: [AnyObject]
    private let capture: CaptureDisk?
    /// Fails if the source was changed since it was opened.
    private let confirmUnchanged: () throws -> Void

    /// The first damage of an image or a snapshot that a read has found.
    package var damage: ImageError? { capture?.failure }

    /// Fails if a disk, or a file of a disk image, was written while it was read.
    package func checkHeldStill() throws { try confirmUnchanged() }

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

    private init(
        _ index: any CaptureIndex, _ text: String, exactText: String, _ identity: ChunkIdentity,
        names: @autoclosure @escaping () throws -> CapturedHost, held: [AnyObject] = []
    ) {
        let capture = CaptureDisk(index)
        (disk, self.capture) = (capture, capture)
        header = index.header
        (self.text, self.exactText) = (text, exactText)
        imageID = index.ending.id
        self.identity = identity
        self.names = names
        unreadable = index.ending.lateFacts.unreadable
        self.held = held
        // Every chunk is checked by its hash.
        confirmUnchanged = {}
    }

    private init(
        _ planned: PlannedDisk, _ text: String, names: @autoclosure @escaping () throws -> CapturedHost,
        unreadable: [ByteRange] = [],
        confirmUnchanged: @escaping () throws -> Void
    ) {
        (disk, capture) = (planned, nil)
        header = planned.header
        (self.text, exactText) = (text, text)
        (imageID, identity) = (nil, .plain)
        self.names = names
        self.unreadable = unreadable
        held = []
        self.confirmUnchanged = confirmUnchanged
    }

    private init(_ selector: SnapshotAddress, _ keys: KeyRing) throws {
        let (repository, lock) = try OpenedRepository.open(selector.repository, keys, .restore)
        let found = try OpenedRepository.find(selector, in: repository, keys.events)
        let index = try repository.index(found)
        self.init(
            index, selector.text, exactText: "\(Stores.normalized(selector.repository))@\(found.info.id)",
            index.coding.identity, names: CapturedHost(found.info), held: [repository, lock])
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
            let opened = try index(request)
            self.init(
                opened, text, exactText: text, try keys.signingIdentity(path, opened.coding),
                names: CapturedHost(opened.header.manifest, path: path))
        case .disk(let format):
            let disk = try RecordedDisk(path, format, scratch: scratch, keys)
            guard disk.file.isRandomAccess else {
                throw JobFailure(
                    .cannotCreate,
                    "\(text) is compressed, and there is too little space to decompress it: make room beside it or in "
                        + "\(Files.temporaryFolder)")
            }
            let planned = disk.recording.planned(disk.zeros)
            self.init(
                planned, text,
                names: try disk.overlay?.baseNames()
                    ?? CapturedHost(
                        planned.header.manifest, file: try OpenedDisk(text, .readOnly), isVirtual: format.isVirtual)
            ) {
                if let change = disk.claim?.change() {
                    throw ImagingError.failed(
                        "\(text) did not hold still: \(change) while it was read, and what was read mixes two states. "
                            + "Stop what writes it, and read it again")
                }
                // All files of a chain, and the block map beside an image.
                try disk.file.confirmEnd()
            }
        case .foreign(let format):
            let opened = try RecordedForeign(path, format, disk: nil, scratch: scratch.required, salvages: true, keys)
            let planned = opened.recording.planned(opened.sparse.map { .sparseFile($0) } ?? .unknown)
            self.init(
                planned, text, names: CapturedHost(planned.header.manifest, path: path),
                unreadable: opened.missing, confirmUnchanged: {})
        case .unknown(let why): throw ImageError.foreign(name: text, why: why)
        }
    }

    private init(device text: String, _ keys: KeyRing) throws {
        // A gap is read only when it is asked for: a disk can have terabytes of them.
        let disk = try SourceDisk(text, for: .randomAccess, leftOut: .zeros([]), uuid: { _ in .random() }, keys)
        let planned = PlannedDisk(disk.plan, of: disk.source.reader)
        self.init(planned, text, names: CapturedHost(planned.header.manifest, path: nil)) {
            try disk.source.check()
        }
    }
}
