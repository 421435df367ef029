// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// The disk that a kept overlay and its base make together, read-only. A range of the base that cannot be read is a
/// read error here.
package final class OverlayDisk: DiskFile, ServedDisk {
    /// The description of the base: the increment belongs to the same machine and disk.
    package let baseManifest: Manifest
    package let file: FileBytes
    package let name: String
    package let byteCount: UInt64
    private let overlay: OwnedDescriptor
    private let client: NBDClient
    private let parts: Parts

    /// What runs for it; only the initializer and `deinit` of one object touch it.
    private final class Parts: @unchecked Sendable {
        // @unchecked: see above.
        let base: ServedSource
        let server: NBDServer
        let daemon: StorageDaemon
        let folder: PrivateFolder

        init(_ base: ServedSource, _ server: NBDServer, _ daemon: StorageDaemon, _ folder: PrivateFolder) {
            (self.base, self.server, self.daemon, self.folder) = (base, server, daemon, folder)
        }

        deinit {
            try? daemon.stop()
            server.stop()
        }
    }

    package init(_ path: FilePath, _ record: OverlayRecord, _ keys: KeyRing) throws {
        let base = try record.openBase(of: path, keys)
        baseManifest = base.header.manifest
        name = path.string
        file = try FileBytes(path)
        overlay = try OwnedDescriptor.open(path, .readOnly)
        let folder = try PrivateFolder()
        let socket = folder.path.appending("base")
        let server = try NBDServer(base.disk, at: .unix(socket))
        do {
            let attached = StorageDaemon.File(overlay.raw, name: path.string)
            let nodes = MachineSettings.diskNodes(
                baseSocket: socket, overlays: [FilePath(attached.path)], writesLast: false)
            let daemon = try StorageDaemon(
                nodes: nodes, files: [attached], export: .nbd, cancellation: keys.cancellation)
            parts = Parts(base, server, daemon, folder)
            client = try NBDClient(socket: daemon.socket, export: "disk", name: path.string)
        } catch {
            server.stop()
            if (error as? EmulatorError)?.isLocked == true {
                throw JobFailure(.refused, OverlayRecord.inUse(path.string))
            }
            throw error
        }
        byteCount = client.byteCount
        guard byteCount == record.byteCount else {
            throw JobFailure(
                .badImage,
                "\(path) is a disk of \(ByteText.exact(byteCount)), and its base has \(ByteText.exact(record.byteCount))"
            )
        }
    }

    /// The names of the base in a repository, which the increment shares. To find them may take a look into its
    /// filesystems.
    func baseNames() throws -> CapturedHost { try parts.base.names() }

    package var isRandomAccess: Bool { true }
    package var hasUncheckedParts: Bool { true }
    package var descriptor: Int32? { nil }
    package var extentSource: (any ServedDisk)? { self }
    package var statedSectorSize: Int? { baseManifest.geometry.logicalSectorSize }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        do throws(BlockIOError) { try client.read(into: buffer, at: offset) } catch {
            // The daemon passes a number on; the base knows the reason.
            throw parts.server.failure ?? error
        }
    }

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] { try client.extents(in: range) }

    package func confirmEnd() throws(ImageError) {
        try file.confirmUnchanged()
        do { try parts.base.checkHeldStill() } catch { throw .changed(name: parts.base.text) }
    }
}
