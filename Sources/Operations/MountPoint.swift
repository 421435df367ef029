// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The file in a folder of the user over which a disk is mounted. It is removed with this object.
final class MountPoint {
    let path: FilePath

    /// Takes an empty folder, or one in which a killed `reforge mount` left its file.
    init(in folder: String) throws {
        guard let status = try Files.status(FilePath(folder)) else {
            throw JobFailure(.notFound, "\(folder) does not exist: make an empty folder first (mkdir)")
        }
        guard status.isFolder, let real = Files.realPath(FilePath(folder)) else {
            throw JobFailure(.usage, "\(folder) is not a folder: the disk appears as a file in an empty folder")
        }
        path = real.appending(MountReport.fileName)
        try Self.detachLeftover(path)
        let others = try Files.allNames(in: real).filter { $0 != MountReport.fileName }
        guard others.isEmpty else {
            throw JobFailure(.refused, "\(folder) is not empty: give an empty folder")
        }
        try Self.take(path, folder)
    }

    private static func take(_ path: FilePath, _ folder: String) throws {
        do throws(SystemCallError) {
            _ = try OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: [.ownerReadWrite])
        } catch {
            switch error.errno {
            case .fileExists:
                // A file with contents, or of another user, is never covered.
                guard isMounted(path) || !isEmptyFile(path) else { return }
                throw JobFailure(
                    .refused, "\(path) exists: it may be in use by another `reforge mount`. Give an empty folder")
            case .readOnlyFileSystem, .permissionDenied, .notPermitted:
                throw JobFailure(
                    .cannotCreate,
                    "\(path) cannot be made, and the disk needs a file to appear as: \(folder) cannot be written to. Give a "
                        + "folder of your own")
            default: throw JobFailure(.cannotCreate, "\(error)")
            }
        }
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

    /// Detaches the mount of a daemon that was killed: every access to it fails with ENOTCONN.
    private static func detachLeftover(_ path: FilePath) throws {
        guard isMounted(path) else { return }
        do throws(SystemCallError) { _ = try Files.status(path) } catch {
            guard error.errno == .socketNotConnected else { throw error }
            _ = try? ChildProcess.run(
                SystemFacts.isRoot ? ["umount", "-l", path.string] : ["fusermount3", "-u", "-z", path.string],
                timeoutSeconds: 10)
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
