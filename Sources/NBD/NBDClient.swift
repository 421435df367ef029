// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A disk served by another NBD server on a Unix socket: a storage daemon's. Safe for calls from several threads.
package final class NBDClient: ServedDisk {
    package let name: String
    package let byteCount: UInt64
    package var logicalSectorSize: Int { 512 }

    /// - Parameters:
    ///   - export: the name of the export.
    ///   - name: for messages.
    package init(socket: FilePath, export: String, name: String) throws(BlockIOError) { fatalError("scaffold") }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        fatalError("scaffold")
    }

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] { fatalError("scaffold") }
}
