// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import Synchronization
import SystemPackage

/// A volume that is mounted below /run/reforge/volumes as long as this lives.
struct MountedVolume: ~Copyable {
    /// Which.
    let volume: BlockVolume
    /// Its root.
    let folder: FilePath
    private let mount: Mount

    /// How the kernel mounts what libblkid calls so; `nil` where it is not mounted here, or not for writing.
    static func manner(of type: String, writable: Bool) -> FilesystemTraits.MountManner? {
        FilesystemTraits.named(type)?.mount.flatMap { !writable || $0.isWritable ? $0 : nil }
    }

    /// Mounts a volume.
    /// - Throws: status 66 where this kind is not mounted here, 74 where it failed.
    init(_ volume: BlockVolume, writable: Bool = false) throws(JobFailure) {
        guard let manner = Self.manner(of: volume.type, writable: writable) else {
            throw JobFailure(
                writable ? ExitStatus.cannotCreate : ExitStatus.notFound,
                "\(volume.path) holds \(volume.type.isEmpty ? "no filesystem" : volume.type.printable), which the recovery environment cannot mount\(writable ? " for writing" : "")."
            )
        }
        let folder = RecoveryPaths.volumes.appending(volume.node + (writable ? "-rw" : ""))
        do {
            try Files.makeFolders(folder)
            mount = try Mount(
                volume.path, on: folder, type: manner.type, options: writable ? [.untrusted] : [.untrusted, .readOnly],
                data: writable ? "" : manner.readOnlyOptions)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        self.volume = volume
        self.folder = folder
    }

    /// Takes away what a session that crashed left mounted: nothing could be mounted in its place otherwise.
    static func unmountLeftovers() {
        for entry in MountEntry.current().reversed()
        where FilePath(entry.mountPoint).starts(with: RecoveryPaths.volumes) {
            try? Mount.unmount(FilePath(entry.mountPoint), lazily: true)
        }
    }

    /// Unmounts it, and says where that failed: until then not everything is on the disk.
    consuming func unmount() throws(JobFailure) {
        do { try mount.unmount() } catch { throw JobFailure(.ioError, "\(error)") }
    }

    /// The nodes of volumes that could not be unmounted after a job that failed.
    private static let abandoned = Mutex<Set<String>>([])

    /// Whether a volume's disk may not answer any more: whoever uses it may wait for ever.
    static func isAbandoned(_ volume: BlockVolume) -> Bool { abandoned.withLock { $0.contains(volume.node) } }

    /// Unmounts it after a job.
    /// - Parameter status: how that ended. Where a disk may not answer any more, only a moment is waited for it.
    consuming func unmount(after status: Int32) throws(JobFailure) {
        guard [ExitStatus.ioError, .interrupted].contains(where: { $0.rawValue == status }) else {
            return try unmount()
        }
        let node = volume.node
        do { try mount.unmount(withinSeconds: 2) } catch {
            Self.abandoned.withLock { _ = $0.insert(node) }
            throw JobFailure(.ioError, "\(error)")
        }
    }

    /// The real path of a file on the volume. Links in the path are resolved inside the volume, so that none leads out.
    /// - Throws: status 66 where it is not there.
    func resolve(_ path: String) throws(JobFailure) -> FilePath {
        do throws(SystemCallError) {
            let root = try AnchoredFolder(folder)
            let file = try root.open(path, .readOnly)
            guard let real = Files.linkTarget(FilePath("/proc/self/fd/\(file.raw.rawValue)")).map({ FilePath($0) }),
                real.starts(with: folder)
            else { throw SystemCallError("open", "\(path) on \(volume.path)", .noSuchFileOrDirectory) }
            return real
        } catch {
            throw JobFailure(
                .notFound,
                "There is no \(path) on \(volume.path) (\(volume.locationName)): \(error.errno.sentence).")
        }
    }

    /// The real path of a folder, which is made where it is not there.
    func madeFolder(_ path: String) throws(JobFailure) -> FilePath {
        // Links in what is there already are followed inside the volume only.
        do { try AnchoredFolder(folder).makeFolders(path) } catch {
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
