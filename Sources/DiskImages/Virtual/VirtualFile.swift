// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// One file of a virtual machine's disk: opened once, examined, claimed, and given to QEMU by its descriptor.
final class VirtualFile: Sendable {
    let device: BlockDevice
    /// Reads what decides on the disk.
    let metadata: InterruptibleReader
    /// Detects changes.
    let bytes: FileBytes
    private let claim: Claim

    /// The path of the opened file, without links.
    let path: FilePath

    /// - Parameters:
    ///   - folder: the folder that the file must lie in; `nil` for any.
    ///   - cancellation: ends the reads of its metadata.
    init(_ path: FilePath, below folder: FilePath?, _ cancellation: Cancellation) throws(ImageError) {
        guard let real = Files.realPath(path) else {
            throw .system(SystemCallError("open", path.string, .noSuchFileOrDirectory))
        }
        // Before it is opened: opening a pipe would wait, and opening a device may do something.
        let status: Stat
        do { status = try Stat(real) } catch { throw .system(SystemCallError("open", path.string, error)) }
        guard status.type == .regular else { throw Self.notRegular(path) }
        do throws(SystemCallError) { device = try BlockDevice(opening: real) } catch { throw .system(error) }
        metadata = InterruptibleReader(base: device, cancellation: cancellation)
        let place = FilePath("/proc/self/fd/\(device.fileDescriptor.rawValue)")
        // Asked of the open file: its path may have led elsewhere for a moment.
        guard !device.isDevice, let opened = Files.linkTarget(place) else { throw Self.notRegular(path) }
        self.path = FilePath(opened)
        bytes = try FileBytes(place, name: path.string)
        if let folder, !self.path.starts(with: folder) {
            throw .refused(
                "\(self.path) lies outside of the folder of the disk image that needs it. If it is the right file, "
                    + "allow it with --allow-backing")
        }
        do throws(Claim.Problem) { claim = try Claim.source(device) } catch {
            throw .refused(
                "\(path) \(error). Its contents may change while they are read: shut the virtual machine down, or take "
                    + "a snapshot of it")
        }
    }

    /// Refuses a file whose filesystems are mounted read-write, through a loop device: what is written there has no
    /// lock that QEMU would see.
    func refuseMounted() throws(ImageError) {
        let places = DiskDirectory().uses(of: device).compactMap(\.mountPointReadWrite)
        guard places.isEmpty else {
            throw .refused(
                "\(path) has filesystems that are mounted read-write: \(places.joined(separator: ", ")). Unmount them "
                    + "first")
        }
    }

    private static func notRegular(_ path: FilePath) -> ImageError {
        .foreign(name: path.string, why: "it is not a regular file, and a part of a disk image must be one")
    }

    /// The file as QEMU opens it.
    var attachment: StorageDaemon.File { .init(device.fileDescriptor, name: path.string) }

    /// Equal for two paths of one file.
    var identity: [UInt64] { [device.deviceNumber, device.inodeNumber] }

    /// What the identity of the disk depends on.
    var facts: [UInt64] {
        [bytes.byteCount, UInt64(bitPattern: bytes.changed.seconds), UInt64(bitPattern: bytes.changed.nanoseconds)]
    }
}
