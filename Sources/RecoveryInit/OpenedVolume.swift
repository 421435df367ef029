// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import Synchronization
import SystemAccess
import SystemPackage

/// A volume of this machine, mounted below /run/reforge/volumes; the end of this value unmounts it.
struct OpenedVolume: ~Copyable {
    let volume: BlockVolume
    private let mounted: MountedVolume
    /// The device between an NTFS and its mount; the mount ends first.
    private let loop: LoopDevice?

    /// Mounts a volume.
    /// - Throws: status 66 (73 for writing) if its kind cannot be mounted, 74 if mounting failed.
    init(_ volume: BlockVolume, writable: Bool = false) throws(JobFailure) {
        guard let manner = Self.manner(of: volume.type, writable: writable) else {
            throw JobFailure(
                writable ? ExitStatus.cannotCreate : ExitStatus.notFound,
                "\(volume.path) holds \(volume.type.isEmpty ? "no filesystem" : volume.type.printable), which the recovery environment cannot mount\(writable ? " for writing" : "")."
            )
        }
        let folder = RecoveryPaths.volumes.appending(volume.node + (writable ? "-rw" : ""))
        do {
            if volume.type == "ntfs" {
                // NTFS3 has no option against replaying a log: below a device that refuses writes it changes nothing.
                let device = try LoopDevice(
                    over: FilePath(volume.path), range: 0..<volume.byteCount, readOnly: true)
                mounted = try MountedVolume(device.path.string, manner, on: folder, writable: false)
                loop = consume device
            } else {
                mounted = try MountedVolume(volume.path, manner, on: folder, writable: writable)
                loop = nil
            }
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        self.volume = volume
    }

    /// How a volume is mounted: as everywhere, and NTFS by the kernel's NTFS3 for reading only. That is the rule of the
    /// medium alone: other kernels, and Debian's before 6.12, do not have it.
    static func manner(of type: String, writable: Bool) -> FilesystemTraits.MountManner? {
        if type == "ntfs" {
            return writable ? nil : FilesystemTraits.MountManner("ntfs3", readOnlyOptions: "iocharset=utf8")
        }
        return MountedVolume.manner(of: type, writable: writable)
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
                "There is no \(path) on \(volume.path) (\(volume.locationName(among: [volume]))): \(error.errno.sentence)."
            )
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
    func isMountable(writable: Bool) -> Bool { OpenedVolume.manner(of: type, writable: writable) != nil }
}
