// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import DiskModel
import SystemPackage

/// Reads a block device sector by sector, bypassing the page cache (`O_DIRECT`).
///
/// Through the cache, the kernel reads whole pages: one bad sector of 512 bytes also makes its
/// seven neighbours unreadable.
package final class DirectReader: BlockReader {
    /// The length in bytes.
    package let byteCount: UInt64
    /// The logical sector size in bytes.
    package let logicalSectorSize: Int
    package let name: String
    private let descriptor: OwnedDescriptor
    private let pending: PendingCalls

    /// Opens the device of `device` a second time; `nil` if it cannot be read past the cache.
    package init?(_ device: BlockDevice) {
        // By descriptor, not by name: the name may belong to another device by now.
        let path = FilePath("/proc/self/fd/\(device.fileDescriptor.rawValue)")
        guard device.byteCount % UInt64(device.logicalSectorSize) == 0,
            let descriptor = try? OwnedDescriptor.open(
                path, .readOnly, options: FileDescriptor.OpenOptions(rawValue: rf_o_direct()))
        else { return nil }
        pending = PendingCalls(device.name, on: descriptor.raw)
        self.descriptor = descriptor
        byteCount = device.byteCount
        logicalSectorSize = device.logicalSectorSize
        name = device.name
    }

    /// Fills all of `buffer` from `offset` on.
    ///
    /// The corresponding C function is `pread`. Whole sectors are read into memory that is aligned to pages (open(2)).
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = UInt64(buffer.count)
        guard count > 0 else { return }
        try checkedRange(at: offset, count: count)
        let sector = UInt64(logicalSectorSize)
        let start = offset / sector * sector
        let end = min(byteCount, (offset + count + sector - 1) / sector * sector)
        let whole = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(end - start), alignment: 4096)
        defer { whole.deallocate() }
        var done = 0
        while done < whole.count {
            let part: Int
            do {
                part = try pending.during(.read) {
                    try descriptor.raw.read(
                        fromAbsoluteOffset: Int64(start) + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: whole[done...]))
                }
            } catch {
                let errno = error as? Errno ?? .ioError
                throw failure(start + UInt64(done), whole.count - done, errno.rawValue, errno.sentence)
            }
            // After a short read, the next read must start on a sector.
            guard part > 0, part % logicalSectorSize == 0 else {
                pending.noteLoss()
                throw failure(start + UInt64(done), whole.count - done, Errno.ioError.rawValue, "it ended early")
            }
            done += part
        }
        let skipped = Int(offset - start)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: whole[skipped..<skipped + buffer.count]))
    }

    private func failure(_ offset: UInt64, _ count: Int, _ errorNumber: Int32, _ reason: String) -> BlockIOError {
        BlockIOError(
            .read, name: name, offset: offset, byteCount: UInt64(count), errorNumber: errorNumber, reason: reason)
    }
}
