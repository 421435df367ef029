// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// What a command reads a capture from, wherever it takes an IMAGE: an image of ours (plain, encrypted, .img.xz), a snapshot of a
/// repository, a raw image that somebody else made, or standard input.
package struct OpenedImage {
    /// How it was named.
    package let text: String
    package let reader: any ImageReader
    /// How it ends, where that is known without reading all of it.
    package let ending: ImageEnding?
    /// The file or folder that holds it; `nil` for standard input.
    package let path: FilePath?
    /// The snapshot that it is.
    package let snapshot: Snapshot?
    /// The length of the file; `nil` for a snapshot and standard input.
    package let byteCount: UInt64?
    /// Descriptors and locks that must stay as long as the reader is used.
    private let held: [AnyObject]
    /// What tells that a raw image held still.
    private var claim: Claim?

    /// A descriptor that lives as long as somebody refers to it.
    private final class HeldFile {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// Claims a raw image as the disk that it is.
    private static func claimed(_ text: String, _ events: any EventSink) throws -> Claim {
        let disk = try OpenedDisk(text, .readOnly)
        let places = disk.mountPointsReadWrite
        guard places.isEmpty else {
            throw JobFailure(
                .refused,
                "\(text) has filesystems that are mounted read-write: \(places.joined(separator: ", ")). Unmount them first"
            )
        }
        if let found = try InterruptedRestore(on: disk.device) {
            throw JobFailure(.refused, "\(text) holds \(found), and is no image: finish that restore first")
        }
        let claim = try disk.claimSource(events)
        // What else it holds may be all that is left of it.
        if let found = try InterruptedRestore(on: disk.device, disk.survey(allUsed: true).volumes) {
            events.warn("interrupted-restore", "\(text) holds \(found): no filesystem is there")
        }
        return claim
    }

    /// Fails where a raw image was written while it was read.
    package func checkHeldStill() throws(ImagingError) {
        guard let change = claim?.change() else { return }
        throw .failed("\(text) did not hold still: \(change) while it was read. Stop what writes it, and copy it again")
    }

    /// Has the reader used for as long as what it reads from is held: a reader knows no more than the descriptor's number.
    package func reading<Value>(_ body: (any ImageReader) throws -> Value) rethrows -> Value {
        try withExtendedLifetime(self) { try body(reader) }
    }

    /// Opens an image or a snapshot, and checks what can be checked without reading all of it.
    /// - Parameter salvages: takes an image with a damaged or missing end, for a `SalvageReader`.
    package static func open(
        _ text: String, _ keys: KeyRing, operation: RepositoryOperation = .restore, salvages: Bool = false
    ) throws -> OpenedImage {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: try OpenedImage(pipe: keys)
        case .snapshot(let address): try OpenedImage(address, keys, operation)
        case .path, .volume, .http: try OpenedImage(file: text, keys, salvages: salvages)
        }
    }

    private init(pipe keys: KeyRing) throws {
        text = "-"
        let file = HeldFile(try ImageFile.openForStreaming("-"))
        reader = try ImageStreamReader(
            file.descriptor.raw, name: "standard input", cancellation: keys.cancellation, unlock: keys.imageKeys)
        (ending, path, snapshot, byteCount, held) = (nil, nil, nil, nil, [file])
    }

    private init(_ selector: SnapshotAddress, _ keys: KeyRing, _ operation: RepositoryOperation) throws {
        text = selector.text
        let (repository, lock) = try OpenedRepository.open(FilePath(selector.repository), keys, operation)
        let found = try OpenedRepository.find(selector, in: repository, keys.events)
        reader = try repository.reader(found)
        ending = ImageEnding(id: found.info.id, lateFacts: found.lateFacts)
        (path, snapshot, byteCount, held) = (FilePath(selector.repository), found, nil, [repository, lock])
    }

    private init(file text: String, _ keys: KeyRing, salvages: Bool) throws {
        self.text = text
        SnapshotAddress.noteHidden(by: text, keys.events)
        let path = FilePath(text)
        self.path = path
        snapshot = nil
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", text, error) }
        byteCount = status.type == .regular ? UInt64(max(0, status.size)) : nil
        let kind = try ImageFileKind.detect(path)
        switch kind {
        case .image, .encryptedImage:
            let file = HeldFile(try ImageFile.openForStreaming(text))
            let image = try Self.image(path, keys, salvages: salvages)
            let stream = try ImageStreamReader(
                file.descriptor.raw, name: text, cancellation: keys.cancellation, unlock: keys.imageKeys)
            // What is restored is what is read from here on: the file may have been replaced since it was checked.
            guard image.map({ $0.header == stream.header }) ?? true else {
                throw JobFailure(.badImage, "\(text) changed while it was looked at")
            }
            if salvages, let image { stream.useIndex(of: image) }
            reader = stream
            ending = image.map { ImageEnding(id: $0.footer.imageID, lateFacts: $0.lateFacts) }
            held = [file]
        case .xzImage:
            let archive = try XZImageReader(path, salvages: salvages)
            (reader, ending, held) = (archive, archive.knownEnding, [])
        case .foreignRaw, .foreignXZ, .foreignZstd:
            guard !salvages else {
                throw JobFailure(
                    .usage,
                    "\(text) is no image of Reforge: --salvage needs its records of what each part of the disk should hold"
                )
            }
            // A raw image may be the disk of a virtual machine.
            if kind == .foreignRaw { claim = try Self.claimed(text, keys.events) }
            (reader, ending, held) = (
                try ForeignImageReader(
                    path, kind: kind, cancellation: keys.cancellation, log: keys.events.log,
                    table: { try? PartitionTableReader.read($0) }), nil, []
            )
        case .unknown(let why):
            throw ImageError.foreign(name: text, why: why)
        }
    }

    /// The ends of an image; `nil` where its end is damaged or missing and may be.
    private static func image(_ path: FilePath, _ keys: KeyRing, salvages: Bool) throws -> ImageFile? {
        do { return try ImageFile(path, cancellation: keys.cancellation, unlock: keys.imageKeys) } catch {
            guard salvages, Salvage.isDamage(error) else { throw error }
            return nil
        }
    }
}
