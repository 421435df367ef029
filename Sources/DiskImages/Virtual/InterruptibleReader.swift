// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A file whose reads end with the job. The tables of a hostile image may be terabytes of holes, and take hours to
/// check.
struct InterruptibleReader: BlockReader {
    let base: any BlockReader
    let cancellation: Cancellation

    var byteCount: UInt64 { base.byteCount }
    var logicalSectorSize: Int { base.logicalSectorSize }
    var name: String { base.name }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard !cancellation.isRequested else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count),
                errorNumber: Errno.interrupted.rawValue, reason: cancellation.name)
        }
        unsafe try base.read(into: buffer, at: offset)
    }
}
