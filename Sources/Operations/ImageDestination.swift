// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// The destination of a capture or a copy: an image file, standard output, or a repository.
package enum ImageDestination {
    /// Standard output.
    case stream
    /// An image file of this name.
    case file(FilePath)
    /// The repository at an address.
    case repository(String)

    /// The file or folder of this machine; `nil` for standard output and remote stores.
    package var path: FilePath? {
        switch self {
        case .stream: nil
        case .file(let path): path
        case .repository(let address): Stores.isFolder(address) ? FilePath(address) : nil
        }
    }

    /// Parses an argument: `-`, `REPO@`, or a path.
    package init(_ text: String, _ events: any EventSink) throws {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .stream: self = .stream
        case .snapshot(let address):
            guard address.choice == .repository else {
                throw JobFailure(
                    .usage, "\(text) names a snapshot; what goes into a repository is written \(address.repository)@")
            }
            self = .repository(Stores.normalized(address.repository))
        case .path, .volume, .http:
            SnapshotAddress.noteHidden(by: text, events)
            self = .file(FilePath(text))
        }
    }

    /// How an image is written.
    package struct ImageOptions {
        package var isEncrypted: Bool
        package var isXZ: Bool
        package var overwrite: Bool

        package init(isEncrypted: Bool, isXZ: Bool, overwrite: Bool) {
            (self.isEncrypted, self.isXZ, self.overwrite) = (isEncrypted, isXZ, overwrite)
        }
    }

    /// Refuses a destination that cannot be written, before anything is read.
    package func refuse(_ options: ImageOptions) throws {
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
        case .repository(let address):
            if options.isXZ || options.isEncrypted {
                throw JobFailure(
                    .usage,
                    "--codec and --encrypt are for images: a repository was given both when it was made (init-repo)")
            }
            _ = try Self.configuration(address)
        }
    }
}

extension ImageDestination {
    /// Refuses to replace a file: without `--overwrite` any file, with it a file that is neither an image nor empty,
    /// which is most likely the disk of a swapped command line.
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

    /// Whether data is encrypted there.
    package func isEncrypted(_ options: ImageOptions) throws -> Bool {
        guard case .repository(let address) = self else { return options.isEncrypted }
        return try Self.configuration(address).isEncrypted
    }

    private static func configuration(_ address: String) throws -> RepositoryConfiguration {
        try Repository.configuration(in: try Stores.open(address, cancellation: Cancellation()))
    }
}
