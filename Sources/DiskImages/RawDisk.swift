// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A raw image: the bytes of the file are the bytes of the disk.
final class RawDisk: DiskFile {
    let file: FileBytes
    private let device: BlockDevice

    /// - Throws: `ImageError.foreign` if the length is not a multiple of the sector size.
    init(_ path: FilePath) throws(ImageError) {
        file = try FileBytes(path)
        do throws(SystemCallError) {
            device = try BlockDevice(opening: path, .readOnly, sectorSize: 512)
        } catch { throw .system(error) }
        guard file.byteCount > 0, file.byteCount % 512 == 0, device.byteCount == file.byteCount else {
            throw .foreign(
                name: path.string,
                why: "a raw image consists of whole sectors of 512 bytes, and it has \(file.byteCount) bytes")
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

    func confirmEnd() throws(ImageError) { try file.confirmUnchanged() }
}
