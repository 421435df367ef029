// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import Synchronization
import SystemAccess
import SystemPackage

/// A volume of this machine, mounted below /run/reforge/volumes as long as this lives.
struct OpenedVolume: ~Copyable {
    /// Which.
    let volume: BlockVolume
    private let mounted: MountedVolume

    /// Mounts a volume.
    /// - Throws: status 66 where this kind is not mounted here, 74 where it failed.
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

    /// Its root.
    var folder: FilePath { mounted.folder }

    /// Unmounts it, and says where that failed: until then not everything is on the disk.
    consuming func unmount() throws(JobFailure) {
        do { try mounted.unmount() } catch { throw JobFailure(.ioError, "\(error)") }
    }

    /// The nodes of volumes that could not be unmounted after a job that failed.
    private static let abandoned = Mutex<Set<String>>([])

    /// Whether a volume's disk may no longer answer, so that a call on it may never return.
    static func isAbandoned(_ volume: BlockVolume) -> Bool { abandoned.withLock { $0.contains(volume.node) } }

    /// Unmounts it after a job.
    /// - Parameter status: how that ended. Where a disk may not answer any more, only a moment is waited for it.
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
    /// - Throws: status 66 where it is not there.
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

    /// The real path of a folder, which is made where it is not there.
    func madeFolder(_ path: String) throws(JobFailure) -> FilePath {
        // Links in what is there already are followed inside the volume only.
        do { try mounted.anchored().makeFolders(path) } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
        return try resolve(path)
    }

    /// The real path for a file that is to be made on the volume.
    func resolveForCreation(_ path: String) throws(JobFailure) -> FilePath {
        let whole = FilePath(path)
        guard let name = whole.lastComponent else { throw JobFailure(.usage, "\(path) names no file") }
        return try madeFolder(whole.removingLastComponent().string).appending(name)
    }
}

extension BlockVolume {
    /// Whether its files can be used here.
    func isMountable(writable: Bool) -> Bool { MountedVolume.manner(of: type, writable: writable) != nil }
}
