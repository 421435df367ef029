// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// An unnamed copy of a VHDX image with its log replayed. The image itself is only read: its log is what makes it whole,
/// and the virtual machine that it belongs to will replay it.
final class ReplayedCopy: Sendable {
    private let scratch: DiskScratch
    /// The copy, as QEMU opens it.
    let attachment: StorageDaemon.File
    let header: VirtualHeader
    private static let pieceByteCount: UInt64 = 1 << 20

    init(_ file: VirtualFile, _ request: DiskRequest) throws(ImageError) {
        guard let folder = request.scratch else {
            throw .refused(
                "\(file.path) has a log that must be replayed first, on a copy, and nothing may be written here. Start "
                    + "and shut down its virtual machine, which replays it")
        }
        request.log("copying \(file.path) into \(folder), to replay its log there")
        do throws(SystemCallError) {
            scratch = try DiskScratch(in: folder, memoryReserve: request.memoryReserve)
        } catch { throw .system(error) }
        var position: UInt64 = 0
        while position < file.bytes.byteCount {
            let count = Int(min(Self.pieceByteCount, file.bytes.byteCount - position))
            guard scratch.write(try file.bytes.bytes(at: position, count: count), at: position) else {
                throw .refused(
                    "\(file.path) has a log that must be replayed on a copy, and \(folder) has too little room for it: "
                        + "name another folder with --scratch, or start and shut down its virtual machine, which replays it"
                )
            }
            position += UInt64(count)
            request.progress(position)
            if request.cancellation.isRequested {
                throw .system(SystemCallError("read", file.bytes.name, .interrupted))
            }
        }
        do throws(SystemCallError) { try scratch.finish(file.bytes.byteCount) } catch { throw .system(error) }
        try file.bytes.confirmUnchanged()
        attachment = StorageDaemon.File(scratch.file.raw, name: "a copy of \(file.bytes.name)")
        do throws(EmulatorError) {
            try QemuImage.repair(attachment, format: "vhdx", cancellation: request.cancellation)
        } catch { throw VirtualDisk.error(error, file.bytes.name) }
        let copy: BlockDevice
        do throws(SystemCallError) { copy = try BlockDevice(opening: FilePath(attachment.path)) } catch {
            throw .system(error)
        }
        header = try VHDXHeader.read(copy)
        guard !header.hasLog else { throw file.device.damaged("QEMU could not replay its log", at: 0) }
    }
}
