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
import Operations
import Repository
import SystemPackage

/// What a command reads a capture from, wherever it takes an IMAGE: an image of ours (plain, encrypted, .img.xz), a snapshot of a
/// repository, a raw image that somebody else made, or standard input.
struct OpenedImage {
    /// How it was named.
    let text: String
    let reader: any ImageReader
    /// How it ends, where that is known without reading all of it.
    let ending: ImageEnding?
    /// The file or folder that holds it; `nil` for standard input.
    let path: FilePath?
    /// The snapshot that it is.
    let snapshot: Snapshot?
    /// The length of the file; `nil` for a snapshot and standard input.
    let byteCount: UInt64?
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
    private static func claimed(_ text: String) throws -> Claim {
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
        let claim = try disk.claimSource()
        // What else it holds may be all that is left of it.
        if let found = try InterruptedRestore(on: disk.device, disk.survey(allUsed: true).volumes) {
            Console.message("warning: \(text) holds \(found): no filesystem is there")
        }
        return claim
    }

    /// Fails where a raw image was written while it was read.
    func checkHeldStill() throws(ImagingError) {
        guard let change = claim?.change() else { return }
        throw .failed("\(text) did not hold still: \(change) while it was read. Stop what writes it, and copy it again")
    }

    /// Has the reader used for as long as what it reads from is held: a reader knows no more than the descriptor's number.
    func reading<Value>(_ body: (any ImageReader) throws -> Value) rethrows -> Value {
        try withExtendedLifetime(self) { try body(reader) }
    }

    /// Opens an image or a snapshot, and checks what can be checked without reading all of it.
    /// - Parameter salvages: takes an image with a damaged or missing end, for a `SalvageReader`.
    static func open(
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
        reader = try ImageStreamReader(file.descriptor.raw, name: "standard input", unlock: keys.imageKeys)
        (ending, path, snapshot, byteCount, held) = (nil, nil, nil, nil, [file])
    }

    private init(_ selector: SnapshotAddress, _ keys: KeyRing, _ operation: RepositoryOperation) throws {
        text = selector.text
        let (repository, lock) = try OpenedRepository.open(FilePath(selector.repository), keys, operation)
        let found = try OpenedRepository.find(selector, in: repository)
        reader = try repository.reader(found)
        ending = ImageEnding(id: found.info.id, lateFacts: found.lateFacts)
        (path, snapshot, byteCount, held) = (FilePath(selector.repository), found, nil, [repository, lock])
    }

    private init(file text: String, _ keys: KeyRing, salvages: Bool) throws {
        self.text = text
        SnapshotAddress.noteHidden(by: text)
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
            let stream = try ImageStreamReader(file.descriptor.raw, name: text, unlock: keys.imageKeys)
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
            if kind == .foreignRaw { claim = try Self.claimed(text) }
            (reader, ending, held) = (
                try ForeignImageReader(
                    path, kind: kind, log: Console.message, table: { try? PartitionTableReader.read($0) }), nil, []
            )
        case .unknown(let why):
            throw ImageError.foreign(name: text, why: why)
        }
    }

    /// The ends of an image; `nil` where its end is damaged or missing and may be.
    private static func image(_ path: FilePath, _ keys: KeyRing, salvages: Bool) throws -> ImageFile? {
        do { return try ImageFile(path, unlock: keys.imageKeys) } catch {
            guard salvages, Salvage.isDamage(error) else { throw error }
            return nil
        }
    }
}

/// Passwords and keys of one command: each repository and image is asked for once.
final class KeyRing {
    private let options: KeyOptions
    private var password: [UInt8]?
    private var repositories: [String: MasterKeys] = [:]
    private var images: [String: MasterKeys] = [:]

    init(_ options: KeyOptions) { self.options = options }

    /// The keys of a repository; `nil` where it is not encrypted.
    func keys(_ path: FilePath) throws -> MasterKeys? {
        guard try Repository.configuration(in: LocalStore(path)).isEncrypted else { return nil }
        if let known = repositories[path.string] { return known }
        let keys = try KeyStore(LocalStore(path)).unlock(password: try givenPassword("the repository \(path)"))
        repositories[path.string] = keys
        return keys
    }

    /// The keys of an encrypted image, from the wrapped ones at its front.
    func imageKeys(_ name: String, _ wrapped: [WrappedKey]) throws(ImageError) -> MasterKeys {
        if let known = images[name] { return known }
        let password: [UInt8]
        do { password = try givenPassword("the image \(name)") } catch let error as ImageError { throw error } catch {
            throw .key("\((error as? JobFailure)?.message ?? "\(error)")")
        }
        let keys = try EncryptedImage.unlock(name, wrapped, password: password)
        images[name] = keys
        return keys
    }

    /// Whether something was encrypted and opened.
    var wasUsed: Bool { password != nil }

    /// Refuses a password that nothing took: whether a repository or image without encryption is the one that was meant,
    /// or was put in its place by somebody who can write there, nothing tells.
    /// - Parameter name: what is not encrypted.
    func refuseUnused(_ name: String) throws {
        guard options.isGiven, password == nil else { return }
        throw JobFailure(
            .refused,
            "\(name) is not encrypted, but a password was given (--password-file, or $\(KeyOptions.variable)): if this is "
                + "right, leave the password out")
    }

    /// The password for something new.
    func newPassword(_ purpose: String) throws -> [UInt8] {
        if let password { return password }
        let new = try options.passwordBytes(confirming: true, purpose: purpose)
        password = new
        return new
    }

    private func givenPassword(_ purpose: String) throws -> [UInt8] {
        if options.isGiven, let password { return password }
        let given = try options.passwordBytes(purpose: purpose)
        password = given
        return given
    }
}

/// Repositories as commands open them.
enum OpenedRepository {
    /// Opens a repository under a lock, which comes before the password: what waits must not be typed for.
    static func open(
        _ path: FilePath, _ keys: KeyRing, _ operation: RepositoryOperation, waiting: Double = 0
    ) throws -> (Repository, RepositoryLock) {
        let lock = try lock(path, operation, waiting)
        return (try open(path, keys), lock)
    }

    /// A lock that says what is done to a repository.
    private static func lock(
        _ path: FilePath, _ operation: RepositoryOperation, _ waiting: Double
    ) throws -> RepositoryLock {
        // What is wrong with the path is said first.
        _ = try Repository.configuration(in: LocalStore(path))
        return try RepositoryLock.acquire(
            in: LocalStore(path), operation: operation, waiting: waiting, note: Console.message)
    }

    /// Opens a repository for a look at its lists, which needs no lock.
    static func open(_ path: FilePath, _ keys: KeyRing) throws -> Repository {
        try Repository.open(LocalStore(path), keys: try keys.keys(path)) { Console.message("warning: \($0)") }
    }

    /// The snapshot that a person means. A damaged one may be the one that is meant by a time or `latest`: then nothing
    /// older takes its place unsaid.
    static func find(_ selector: SnapshotAddress, in repository: Repository) throws -> Snapshot {
        let (whole, damaged) = repository.snapshotInfos()
        if let first = damaged.first {
            switch selector.choice {
            case .id(let prefix):
                let meant = damaged.first {
                    (FilePath($0.name).lastComponent?.string ?? $0.name).hasPrefix(prefix)
                }
                if let meant, !whole.contains(where: { $0.id.description.hasPrefix(prefix) }) { throw meant.error }
                for one in damaged { Console.message("warning: the snapshot \(one.name) cannot be read: \(one.error)") }
            case .latest, .time:
                throw JobFailure(
                    .badImage,
                    "\(first.error). It could be the one that is meant by \(selector.text): name another by its id "
                        + "(reforge snapshots \(selector.repository))")
            case .repository: break
            }
        }
        return try repository.snapshot(try SnapshotQuery(selector).resolve(in: whole).id)
    }

    /// `REPO`, or `REPO@` as capture writes it: a folder.
    static func path(_ text: String) throws -> FilePath {
        if LocalStore.isRepository(FilePath(text)) { return FilePath(text) }
        if case .snapshot(let address) = try ImageAddress.parse(text, .thisMachine), address.choice == .repository {
            return FilePath(address.repository)
        }
        return FilePath(text)
    }
}

extension SnapshotAddress {
    /// Says where a path that exists was taken in place of a snapshot.
    static func noteHidden(by text: String) {
        guard let hidden = ImageAddress.hiddenSnapshot(by: text, .thisMachine) else { return }
        let behind = text.dropFirst(hidden.repository.count)
        Console.message(
            "note: \(text) is taken as the path that exists, not as a snapshot; that one is \(hidden.repository)/\(behind)"
        )
    }
}
