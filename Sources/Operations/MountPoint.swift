// SPDX-License-Identifier: GPL-3.0-or-later
import Emulator
import JobModel
import LinuxSystem
import SystemPackage

/// The file in a folder of the user over which a disk is mounted. It is removed with this object.
final class MountPoint {
    let path: FilePath
    /// Locked as long as this object lives.
    private let file: OwnedDescriptor

    /// Takes an empty folder, or one in which a killed `reforge mount` left its file.
    init(in folder: String) throws {
        guard let status = try Files.status(FilePath(folder)) else {
            throw JobFailure(.notFound, "\(folder) does not exist: make an empty folder first (mkdir)")
        }
        guard status.isFolder, let real = Files.realFolder(FilePath(folder)) else {
            throw JobFailure(
                .usage,
                "\(folder) is not a folder, or its name is not valid UTF-8: the disk appears as a file in an empty "
                    + "folder"
            )
        }
        path = real.appending(MountReport.fileName)
        try Self.detachLeftover(path)
        let others = try Files.allNames(in: real).filter { $0 != MountReport.fileName }
        guard others.isEmpty else {
            throw JobFailure(.refused, "\(folder) is not empty: give an empty folder")
        }
        file = try Self.take(path, folder)
    }

    /// Makes the file, or takes one that was left, and locks it: two mounts that start at the same time must not both
    /// cover it, as the end of one would take the other's disk away.
    private static func take(_ path: FilePath, _ folder: String) throws -> OwnedDescriptor {
        guard let file = try made(path, folder) ?? left(path),
            try FileLock.take(file.raw, forWriting: true) != .held, Files.isSame(file.raw, path), !isMounted(path)
        else {
            throw JobFailure(
                .refused, "\(path) exists: it may be in use by another `reforge mount`. Give an empty folder")
        }
        return file
    }

    /// - Returns: `nil` if it exists already.
    private static func made(_ path: FilePath, _ folder: String) throws -> OwnedDescriptor? {
        do throws(SystemCallError) {
            return try OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: [.ownerReadWrite])
        } catch {
            switch error.errno {
            case .fileExists: return nil
            case .readOnlyFileSystem, .permissionDenied, .notPermitted:
                throw JobFailure(
                    .cannotCreate,
                    "\(path) cannot be made, and the disk needs a file to appear as: \(folder) cannot be written to. Give a "
                        + "folder of your own")
            default: throw JobFailure(.cannotCreate, "\(error)")
            }
        }
    }

    /// A file with contents, or of another user, is never covered.
    private static func left(_ path: FilePath) -> OwnedDescriptor? {
        guard !isMounted(path), isEmptyFile(path) else { return nil }
        return try? OwnedDescriptor.open(path, .writeOnly, options: [.noFollow])
    }

    private static func isEmptyFile(_ path: FilePath) -> Bool {
        guard let status = try? Stat(path, followTargetSymlink: false) else { return false }
        return status.type == .regular && status.size == 0 && status.userID.rawValue == SystemFacts.userID
    }

    /// Whether something is mounted over the file.
    static func isMounted(_ path: FilePath) -> Bool {
        MountEntry.current().contains { $0.mountPoint == path.string }
    }

    var isMounted: Bool { Self.isMounted(path) }

    /// Detaches the mount of a daemon that was killed together with its command.
    private static func detachLeftover(_ path: FilePath) throws {
        guard isMounted(path) else { return }
        do throws(SystemCallError) { _ = try Files.status(path) } catch {
            guard error.errno == .socketNotConnected else { throw error }
            StorageDaemon.detach(path)
        }
    }

    /// The loop devices and mounts that still use the disk, as sentence parts.
    var uses: [String] {
        guard isMounted, let file = try? BlockDevice(opening: path) else { return [] }
        return DiskDirectory().uses(of: file).map(\.description)
    }

    deinit {
        guard !isMounted, Self.isEmptyFile(path) else { return }
        try? Files.remove(path)
    }
}
