// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import SystemPackage

/// A disk of this kernel whose bytes come from an NBD server, read-only. The kernel detaches it when this process
/// ends. Needs the module `nbd`.
package final class NetworkBlockDevice {
    /// The path of the node, `/dev/nbdN`.
    package let path: FilePath
    private let node: OwnedDescriptor
    /// The kernel runs the connection in a call of this thread.
    private let thread: WorkerThread

    /// The time for the kernel to show the disk, in seconds.
    private static let patience = 10.0

    /// Attaches a free device to a connection past its handshake, without structured replies. The kernel holds the
    /// socket from then on.
    ///
    /// The corresponding C functions are `ioctl(NBD_SET_SOCK)` and `ioctl(NBD_DO_IT)`.
    package init(_ socket: FileDescriptor, byteCount: UInt64, sectorSize: Int) throws(SystemCallError) {
        guard [512, 1024, 2048, 4096].contains(sectorSize) else {
            throw SystemCallError("attach", "a disk with sectors of \(sectorSize) bytes", .invalidArgument)
        }
        let found = try Self.attach(socket, byteCount, sectorSize)
        path = found.path
        node = OwnedDescriptor(owning: found.node)
        let number = found.node.rawValue
        do throws(SystemCallError) { thread = try WorkerThread { _ = rf_nbd_run(number) } } catch {
            _ = rf_nbd_detach(number)
            throw error
        }
        let wanted = byteCount / UInt64(sectorSize) * UInt64(sectorSize)
        let deadline = SystemFacts.monotonicSeconds() + Self.patience
        var shown: UInt64 = 0
        while rf_block_byte_count(number, &shown) < 0 || shown != wanted {
            guard SystemFacts.monotonicSeconds() < deadline else {
                _ = rf_nbd_detach(number)
                thread.join()
                throw SystemCallError("attach", path.string, .timedOut)
            }
            SystemFacts.sleep(seconds: 0.005)
        }
        // Its partitions. An unreadable table leaves a disk without them, whose start cannot be read either.
        _ = rf_block_reread_partitions(number)
    }

    deinit {
        _ = rf_nbd_detach(node.raw.rawValue)
        thread.join()
    }

    /// - Returns: an open node, which the caller closes.
    private static func attach(
        _ socket: FileDescriptor, _ byteCount: UInt64, _ sectorSize: Int
    ) throws(SystemCallError) -> (path: FilePath, node: FileDescriptor) {
        let blocks: FilePath = "/sys/block"
        let numbers = Files.names(in: blocks).compactMap { name in
            name.hasPrefix("nbd") ? Int(name.dropFirst(3)) : nil
        }
        for number in numbers.sorted() where !Files.exists(blocks.appending("nbd\(number)").appending("pid")) {
            let path = FilePath("/dev/nbd\(number)")
            let node = try OwnedDescriptor.open(path, .readWrite)
            let result = rf_nbd_attach(node.raw.rawValue, socket.rawValue, byteCount, UInt32(sectorSize))
            if result == 0 { return (path, node.release()) }
            // EBUSY: another program has taken it in between.
            guard result == -Errno.resourceBusy.rawValue else {
                throw SystemCallError("attach", path.string, Errno(rawValue: -result))
            }
        }
        throw SystemCallError(
            "find", "a free network block device (kernel module nbd)", .noSuchFileOrDirectory)
    }
}
