// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A raw image: the bytes of the file are the bytes of the disk.
final class RawDisk: DiskFile {
    let logicalSectorSize: Int
    private let device: BlockDevice
    private let file: FileBytes

    /// - Throws: `ImageError.foreign` if the length is not a multiple of the sector size.
    init(_ path: FilePath) throws(ImageError) {
        file = try FileBytes(path)
        let head = try file.bytes(at: 0, count: Int(min(file.byteCount, 8192)))
        logicalSectorSize = DiskHead.sectorSize(head)
        do throws(SystemCallError) {
            device = try BlockDevice(opening: path, .readOnly, sectorSize: logicalSectorSize)
        } catch { throw .system(error) }
        guard file.byteCount > 0, file.byteCount % UInt64(logicalSectorSize) == 0 else {
            throw .foreign(
                name: path.string,
                why: "a raw image is whole sectors of \(logicalSectorSize) bytes, and it holds \(file.byteCount) bytes")
        }
    }

    var byteCount: UInt64 { device.byteCount }
    var name: String { device.name }
    var isRandomAccess: Bool { true }
    var hasUncheckedParts: Bool { true }
    var descriptor: Int32? { device.fileDescriptor.rawValue }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        unsafe try device.read(into: buffer, at: offset)
    }

    func confirmEnd() throws(ImageError) { try DiskHead.confirmUnchanged(file) }
}
