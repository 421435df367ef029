// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import LinuxSystem
import NBD
import SystemPackage

/// The disk of a virtual machine, in a file of QEMU's, VMware's, Hyper-V's or VirtualBox's format, or in a chain of them.
/// QEMU's storage daemon reads the format, without any rights over the files but to read them.
package final class VirtualDisk: DiskFile, ServedDisk {
    private let chain: VirtualChain
    private let client: NBDClient
    private let daemon: Daemon
    package let file: FileBytes
    package let name: String
    package let byteCount: UInt64
    package let statedSectorSize: Int?

    /// The storage daemon; only its own thread and `stop` touch it.
    private final class Daemon: @unchecked Sendable {
        // @unchecked: used by the initializer and `deinit` of one object.
        let daemon: StorageDaemon

        init(_ daemon: StorageDaemon) { self.daemon = daemon }

        deinit { try? daemon.stop() }
    }

    /// Reads shorter than this are not asked for zeros first, in bytes.
    private static let askedByteCount = 256 << 10

    package init(_ request: DiskRequest) throws(ImageError) {
        var chain = try VirtualChain(
            request.path, allowsBacking: request.allowsBacking, cancellation: request.cancellation)
        if chain.header.hasLog { chain.replaceFile(by: try ReplayedCopy(chain.top, request)) }
        self.chain = chain
        file = chain.top.bytes
        name = request.path.string
        statedSectorSize = chain.header.sectorSize
        for (image, node) in chain.checks {
            do throws(EmulatorError) {
                try QemuImage.check(node, files: chain.attachments, cancellation: request.cancellation)
            } catch {
                guard case .failed(_, let why) = error else { throw Self.error(error, name) }
                throw .damaged(
                    name: image.path.string,
                    what: "QEMU finds its structure damaged or cut off, and would read zeros in place of what is lost "
                        + "(\(why)). Take another copy of the file, or repair one (qemu-img check -r all) and give that",
                    fileOffset: 0, disk: 0..<chain.header.byteCount, partition: nil)
            }
        }
        do throws(EmulatorError) {
            daemon = Daemon(
                try StorageDaemon(
                    nodes: chain.nodes, files: chain.attachments, export: .nbd, cancellation: request.cancellation))
        } catch { throw Self.error(error, name) }
        do { client = try NBDClient(socket: daemon.daemon.socket, export: "disk", name: name) } catch {
            throw .foreign(name: name, why: "QEMU does not serve it: \(daemon.daemon.failure ?? error.reason)")
        }
        byteCount = client.byteCount
        // Whole sectors are served.
        guard let stated = chain.header.byteCount.roundedUp(toMultipleOf: 512), stated == byteCount else {
            throw .refused(
                "\(name) holds a disk of \(ByteText.exact(chain.header.byteCount)), but QEMU reads "
                    + "\(ByteText.exact(byteCount)) of it, and would leave out the rest. Convert it with the program that "
                    + "made it (VBoxManage clonemedium --format VDI), and give the result")
        }
    }

    package var isRandomAccess: Bool { true }
    package var hasUncheckedParts: Bool { true }
    package var descriptor: Int32? { nil }
    package var extentSource: (any ServedDisk)? { self }

    /// The facts of all files of a chain, so that its identity changes with each of them.
    package var facts: [UInt64] { chain.files.dropFirst().flatMap(\.facts) }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = UInt64(buffer.count)
        guard offset <= byteCount, count <= byteCount - offset else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: count, errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        if buffer.count >= Self.askedByteCount, try isZero(offset..<offset + count) {
            unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        unsafe try client.read(into: buffer, at: offset)
    }

    /// Whether the format holds nothing for a range: such zeros need not be sent.
    private func isZero(_ range: ByteRange) throws(BlockIOError) -> Bool {
        guard let first = try client.extents(in: range).first else { return false }
        return first.kind != .data && first.byteCount >= range.byteCount
    }

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] { try client.extents(in: range) }

    package func confirmEnd() throws(ImageError) { for file in chain.files { try file.bytes.confirmUnchanged() } }

    static func error(_ error: EmulatorError, _ name: String) -> ImageError {
        switch error {
        case .system(let error): .system(error)
        case .cancelled: .system(SystemCallError("read", name, .interrupted))
        case .missing: .refused("\(name) needs QEMU's tools to be read: \(error)")
        // `raw_check_lock_bytes` and `raw_apply_lock_bytes` (block/file-posix.c).
        case .failed(_, let why) where ["Failed to get ", "Failed to lock "].contains(where: why.contains):
            .refused("\(name) is in use: \(why). Shut the virtual machine down, or take a snapshot of it")
        case .failed: .foreign(name: name, why: "QEMU cannot read it (\(error))")
        }
    }
}
