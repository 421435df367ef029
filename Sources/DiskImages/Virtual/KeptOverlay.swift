// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// A qcow2 file with what was written over a base that QEMU is given by other means.
package enum KeptOverlay {
    /// Refuses a file that QEMU would not read as what it is: of another kind, cut off, or with its data in a file that
    /// it names.
    package static func check(_ path: FilePath, cancellation: Cancellation = Cancellation()) throws(ImageError) {
        let device: BlockDevice
        do throws(SystemCallError) { device = try BlockDevice(opening: path) } catch { throw .system(error) }
        let file = InterruptibleReader(base: device, cancellation: cancellation)
        let header = try VirtualHeader.read(file)
        guard let tables = header.qcowTables, header.dataFile == nil else {
            throw .refused(
                "\(path) is no overlay of `reforge vm`, or keeps its data in another file: its file was replaced")
        }
        try tables.check(file, data: nil)
    }
}
