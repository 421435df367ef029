// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import Synchronization
import SystemAccess
import SystemPackage

/// A volume of this machine, mounted below /run/reforge/volumes; the end of this value unmounts it.
struct OpenedVolume: ~Copyable {
    let volume: BlockVolume
    private let mounted: MountedVolume

    /// Mounts a volume.
    /// - Throws: status 66 (73 for writing) if its kind cannot be mounted, 74 if mounting failed.
    init(_ volume: BlockVolume, writable: Bool = false) throws(JobFailure) {
        guard let manner = MountedVolume.manner(of: volume.type, writable: writable) else {
            throw JobFailure(
                writable ? ExitStatus.cannotCreate : ExitStatus.notFound,
                "\(volume.path) holds \(volume.type.isEmpty ? "no filesystem" : volume.type.printable), which the recovery environment cannot mount\(writable ? " for writing" : "")."
            )
        }
        let folder = RecoveryPaths.volumes.appending(volume.node + (writable ? "-rw" : ""))
        do { mounted = try MountedVolume(volume.path, manner, on: folder, writable: writable) } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        self.volume = volume
    }

    /// The mount point.
    var folder: FilePath { mounted.folder }

    /// Unmounts the volume. After a failure, data may not be on the disk yet.
    consuming func unmount() throws(JobFailure) {
        do { try mounted.unmount() } catch { throw JobFailure(.ioError, "\(error)") }
    }

    /// The nodes of volumes that could not be unmounted after a job that failed.
    private static let abandoned = Mutex<Set<String>>([])

    /// Whether a volume's disk may no longer answer, so that a call on it may never return.
    static func isAbandoned(_ volume: BlockVolume) -> Bool { abandoned.withLock { $0.contains(volume.node) } }

    /// Unmounts the volume after a job.
    /// - Parameter status: the exit status of the job. After a read or write error or an interruption, the disk may no
    ///   longer answer: the wait is two seconds.
    consuming func unmount(after status: Int32) throws(JobFailure) {
        guard [ExitStatus.ioError, .interrupted].contains(where: { $0.rawValue == status }) else {
            return try unmount()
        }
        let node = volume.node
        do { try mounted.unmount(withinSeconds: 2) } catch {
            Self.abandoned.withLock { _ = $0.insert(node) }
            throw JobFailure(.ioError, "\(error)")
        }
    }

    /// The real path of a file on the volume. Links in the path are resolved inside the volume, so that none leads out.
    /// - Throws: status 66 if it does not exist.
    func resolve(_ path: String) throws(JobFailure) -> FilePath {
        do throws(SystemCallError) {
            let root = try mounted.anchored()
            return try root.realPath(of: path)
        } catch {
            throw JobFailure(
                .notFound,
                "There is no \(path) on \(volume.path) (\(volume.locationName)): \(error.errno.sentence).")
        }
    }

    /// The real path of a folder, which is created if missing.
    func madeFolder(_ path: String) throws(JobFailure) -> FilePath {
        // Links in existing folders are followed inside the volume only.
        do { try mounted.anchored().makeFolders(path) } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
        return try resolve(path)
    }

    /// The real path for a file to be created on the volume; its folder is created if missing.
    func resolveForCreation(_ path: String) throws(JobFailure) -> FilePath {
        let whole = FilePath(path)
        guard let name = whole.lastComponent else { throw JobFailure(.usage, "\(path) names no file") }
        return try madeFolder(whole.removingLastComponent().string).appending(name)
    }
}

extension BlockVolume {
    func isMountable(writable: Bool) -> Bool { MountedVolume.manner(of: type, writable: writable) != nil }
}
