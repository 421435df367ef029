// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Operations
import Repository
import SystemPackage

/// Where a capture or a copy goes: an image file, standard output, or a repository.
enum CaptureDestination {
    /// Standard output.
    case stream
    /// An image file of this name.
    case file(FilePath)
    /// A repository.
    case repository(FilePath)

    /// From what a person wrote: `-`, `REPO@`, or a path.
    init(_ text: String) throws {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: self = .stream
        case .snapshot(let address):
            guard address.choice == .repository else {
                throw JobFailure(
                    .usage, "\(text) names a snapshot; what goes into a repository is written \(address.repository)@")
            }
            self = .repository(FilePath(address.repository))
        case .path, .volume, .http:
            SnapshotAddress.noteHidden(by: text)
            self = .file(FilePath(text))
        }
    }

    /// How an image is written.
    struct ImageOptions {
        var isEncrypted: Bool
        var isXZ: Bool
        var overwrite: Bool
    }

    /// Refuses what cannot be written, before anything is read.
    func refuse(_ options: ImageOptions) throws {
        switch self {
        case .stream:
            if SystemFacts.isTerminal(.standardOutput) {
                throw JobFailure(
                    .usage, "an image is not for a terminal: redirect standard output, or name a file")
            }
            if options.isXZ {
                throw JobFailure(.usage, "an .img.xz archive is two files, so it cannot go to standard output")
            }
        case .file(let path):
            if let status = try? Stat(path), status.type == .directory, LocalStore.isRepository(path) {
                throw JobFailure(.usage, "\(path) is a repository: to capture into it, write \(path)@")
            }
            if let status = try? Stat(path), status.type != .regular {
                throw JobFailure(
                    .cannotCreate, "\(path) is not a file, and an image is one: choose another name")
            }
            let name = path.string.lowercased()
            if name.hasSuffix(".xz") != options.isXZ {
                throw JobFailure(
                    .usage,
                    options.isXZ
                        ? "an archive of xz has a name that ends in .img.xz, unlike \(path)"
                        : "\(path) would be zstd, not xz: let its name end in .img.zst (or capture with --codec xz)")
            }
            if name.hasSuffix(".enc"), !options.isEncrypted {
                throw JobFailure(
                    .usage, "\(path) would not be encrypted: add --encrypt, or let the name end in .img.zst")
            }
            if name.hasSuffix(".zst"), options.isEncrypted {
                throw JobFailure(
                    .usage, "\(path) would be encrypted, which is no .zst: let its name end in .img.enc")
            }
            try Self.refuseExisting(path, overwrite: options.overwrite)
            if options.isXZ {
                try Self.refuseExisting(XZImageReader.metadataPath(of: path), overwrite: options.overwrite)
            }
        case .repository(let path):
            if options.isXZ || options.isEncrypted {
                throw JobFailure(
                    .usage,
                    "--codec and --encrypt are for images: a repository was given both when it was made (init-repo)")
            }
            _ = try Repository.configuration(in: LocalStore(path))
        }
    }
}

extension CaptureDestination {
    /// Refuses to replace a file: without `--overwrite` any, with it what is neither an image nor empty. What else lies under
    /// such a name is most likely the disk of a swapped command line.
    private static func refuseExisting(_ path: FilePath, overwrite: Bool) throws {
        guard let status = try Files.status(path) else { return }
        let isReplaceable = try status.byteCount == 0 || KnownImage.identify(fileAt: path)?.kind == .image
        guard isReplaceable else {
            throw JobFailure(
                overwrite ? .refused : .cannotCreate,
                "\(path) exists and is no image, so --overwrite does not replace it: are DISK and IMAGE swapped? Choose another "
                    + "name, or remove the file first")
        }
        guard overwrite else {
            throw JobFailure(
                .cannotCreate, "\(path) exists: choose another name, or replace it with --overwrite")
        }
    }

    /// Whether what is written there is encrypted.
    func isEncrypted(_ options: ImageOptions) throws -> Bool {
        guard case .repository(let path) = self else { return options.isEncrypted }
        return try Repository.configuration(in: LocalStore(path)).isEncrypted
    }
}

/// A destination that is being written to.
final class OpenedDestination {
    let sink: any ImageWriter
    /// What there is to do when the sink has finished.
    private let commit: () throws -> Void
    /// What there is to do when it will not.
    private let abandon: () -> Void

    private init(
        _ sink: any ImageWriter, commit: @escaping () throws -> Void = {},
        abandon: @escaping () -> Void = {}
    ) {
        self.sink = sink
        self.commit = commit
        self.abandon = abandon
    }

    /// Begins to write an image.
    static func image(
        _ path: FilePath?, _ header: ImageHeader, _ options: CaptureDestination.ImageOptions, _ keys: KeyRing
    ) throws -> OpenedDestination {
        if options.isXZ, let path {
            let writer: XZImageWriter
            do { writer = try XZImageWriter(path, overwrite: options.overwrite, header: header) } catch let error
                as SystemCallError
            { throw JobFailure(.cannotCreate, "\(error)") }
            return OpenedDestination(writer)
        }
        let output: ImageOutput
        do { output = try path.map { try ImageOutput($0, overwrite: options.overwrite) } ?? ImageOutput() } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
        let seal =
            try options.isEncrypted
            ? ImageSeal(password: keys.newPassword("the new image \(path?.string ?? "on standard output")")) : nil
        // Beside the image there is room for it, and elsewhere may be none.
        let folder = path.map { $0.removingLastComponent() } ?? Files.temporaryFolder
        let writer = try ImageFileWriter(
            to: output.descriptor, name: output.name, header: header, seal: seal, scratch: folder.isEmpty ? "." : folder
        )
        return OpenedDestination(writer, commit: { try output.commit() })
    }

    /// Begins to write a snapshot.
    static func snapshot(
        _ repository: Repository, lock: RepositoryLock, _ header: ImageHeader, host: String, disk: String,
        tags: [String], level: Int
    ) throws -> OpenedDestination {
        let writer = try repository.writer(
            header: header, host: host, disk: disk, tags: tags, level: level, mayPublish: { try lock.confirm() })
        return OpenedDestination(
            writer, commit: { mergeIndexes(repository) },
            abandon: {
                writer.abandon()
                lock.release()
            })
    }

    /// Makes one index of many small ones, now and then; where other maintenance is at work, somebody else's turn.
    private static func mergeIndexes(_ repository: Repository) {
        guard let lock = try? repository.lock(.merge) else { return }
        defer { lock.release() }
        do { try repository.mergeSmallIndexes { try lock.confirm() } } catch {
            Console.message("warning: the indexes of \(repository.name) were not merged: \(error)")
        }
    }

    /// Runs a capture into it: all of it counts, or nothing.
    func run(_ executor: CaptureExecutor, beforeEnd: () throws -> Void = {}, facts: (() -> LateFacts)? = nil) throws
        -> CaptureExecutor.Outcome
    {
        do {
            let outcome = try executor.run(sink, beforeEnd: beforeEnd, facts: facts)
            try commit()
            return outcome
        } catch {
            abandon()
            throw error
        }
    }
}
