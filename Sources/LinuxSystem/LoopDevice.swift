// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import DiskModel
import Glibc
import SystemPackage

/// A loop device over a file or device, or a part of it: gives a filesystem's own tool access to a volume without a
/// partition table. Released with this value.
package struct LoopDevice: ~Copyable, Sendable {
    /// The path of the node, `/dev/loopN`.
    package let path: FilePath
    private let node: OwnedDescriptor

    /// Attaches `range` of `backing`.
    ///
    /// The corresponding C function is `ioctl(LOOP_CONFIGURE)` (Linux 5.8).
    package init(
        over backing: FilePath, range: ByteRange, readOnly: Bool = false, sectorSize: Int = 512
    ) throws(SystemCallError) {
        let mode: FileDescriptor.AccessMode = readOnly ? .readOnly : .readWrite
        let backingDescriptor = try OwnedDescriptor.open(backing, mode)
        let control = try OwnedDescriptor.open("/dev/loop-control", .readWrite)
        var attempts = 0
        while true {
            let number = try check(rf_loop_get_free(control.raw.rawValue), "find", "a free loop device")
            let path = FilePath("/dev/loop\(number)")
            let node = try OwnedDescriptor.open(path, mode)
            // udev skips a device that is locked (systemd, "Locking Block Device Access"); otherwise it would activate
            // a volume group that is found there. If it is locked already, another program is about to take it.
            guard flock(node.raw.rawValue, LOCK_EX | LOCK_NB) == 0 else {
                attempts += 1
                guard attempts < 64 else {
                    throw SystemCallError("attach \(path) to", backing.string, .resourceBusy)
                }
                SystemFacts.sleep(seconds: 0.05)
                continue
            }
            let result = rf_loop_configure(
                node.raw.rawValue, backingDescriptor.raw.rawValue, range.lowerBound, range.byteCount,
                UInt32(clamping: sectorSize), readOnly ? 1 : 0, Self.ownTag)
            if result == 0 {
                self.path = path
                self.node = node
                return
            }
            attempts += 1
            // EBUSY: another process took the same free number in between.
            guard result == -Errno.resourceBusy.rawValue, attempts < 64 else {
                throw SystemCallError("attach \(path) to", backing.string, Errno(rawValue: -result))
            }
        }
    }

    /// In the name field of each loop device of Reforge, before the process id and its start time.
    private static let tagPrefix = "reforge-"

    private static var ownTag: String {
        let process = SystemFacts.processID
        return "\(tagPrefix)\(process)-\(ProcessFacts.startTicks(of: process) ?? 0)"
    }

    /// Whether a loop device was created here by a process that is gone: a program that it started still uses it.
    ///
    /// The corresponding C function is `ioctl(LOOP_GET_STATUS64)`.
    static func isAbandoned(_ node: FilePath) -> Bool {
        guard let opened = try? OwnedDescriptor.open(node, .readOnly) else { return false }
        var bytes = [CChar](repeating: 0, count: 64)
        guard rf_loop_owner(opened.raw.rawValue, &bytes) == 0 else { return false }
        let name = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let parts = name.dropFirst(tagPrefix.count).split(separator: "-")
        guard name.hasPrefix(tagPrefix), parts.count == 2, let process = Int32(parts[0]), let ticks = UInt64(parts[1])
        else { return false }
        return ProcessFacts.isAlive(process, startTicks: ticks) == false
    }

    deinit {
        // Data first: a released loop device passes its dirty pages to the backing file only at fsync.
        _ = fsync(node.raw.rawValue)
        _ = rf_block_flush_buffers(node.raw.rawValue)
        _ = rf_loop_clear(node.raw.rawValue)
    }
}
