// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// The place of the filesystem to resize.
package enum ResizePlace: Sendable {
    /// In a byte range of a disk or a raw image file: accessed through a loop device, so no partition table is needed.
    /// `sectorSize` is the disk's logical sector size in bytes.
    case part(of: FilePath, range: ByteRange, sectorSize: Int)
    /// On all of a block device: a logical volume, a composite device.
    case device(FilePath)

    /// The place as a separate volume, for reading.
    func slice() throws(ResizeError) -> BlockSlice {
        let (disk, range) = try open(.readOnly)
        guard let slice = BlockSlice(disk, range: range) else {
            throw ResizeError(.unsupported(reason: "\(disk.name) ends before the place of the filesystem does"))
        }
        return slice
    }

    /// Writes the cached data of one node to the disk, because each node has its own cache.
    func synchronise() throws(ResizeError) {
        let (disk, _) = try open(.readOnly)
        do { try disk.dropCache() } catch { throw ResizeError(.inputOutput(error)) }
    }

    /// Fails if the device is mounted or held.
    func checkIsFree() throws(ResizeError) {
        // Other parts of the disk may be in use.
        guard case .device = self else { return }
        _ = try open(.exclusiveRead)
    }

    private func open(_ access: BlockDevice.Access) throws(ResizeError) -> (BlockDevice, ByteRange) {
        do throws(SystemCallError) {
            switch self {
            case .part(let path, let range, let sectorSize):
                return (try BlockDevice(opening: path, access, sectorSize: sectorSize), range)
            case .device(let path):
                let device = try BlockDevice(opening: path, access)
                return (device, 0..<device.byteCount)
            }
        } catch {
            throw ResizeError(.unreachable(error))
        }
    }
}
