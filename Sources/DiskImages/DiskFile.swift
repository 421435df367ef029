// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageFiles
import ImageModel
import NBD
import SystemPackage

/// A disk in a file of any format.
package protocol DiskFile: BlockReader {
    /// Whether any offset can be read at the same cost. Otherwise, reading backwards decompresses from the start.
    var isRandomAccess: Bool { get }
    /// Whether parts have no checksum, so that damage in them remains undetected.
    var hasUncheckedParts: Bool { get }
    /// A descriptor with the bytes of the disk, for libblkid's second opinion; `nil` if there is none.
    var descriptor: Int32? { get }

    /// The error of the last failed read if the file caused it; `nil` if the system did.
    var failure: ImageError? { get }

    /// The logical sector size in bytes, if the file states it.
    var statedSectorSize: Int? { get }
    /// The open file.
    var file: FileBytes { get }
    /// The disk with the runs of zeros that its format records; `nil` for a format that records none.
    var extentSource: (any ServedDisk)? { get }
    /// Facts besides those of `file` that change with the contents of the disk.
    var facts: [UInt64] { get }

    /// Fails where the file was changed since it was opened, or holds more than `byteCount`.
    func confirmEnd() throws(ImageError)
}

extension DiskFile {
    package var failure: ImageError? { nil }
    package var extentSource: (any ServedDisk)? { nil }
    package var facts: [UInt64] { [] }
    package var statedSectorSize: Int? { nil }
    package var logicalSectorSize: Int { statedSectorSize ?? 512 }
}

/// The first bytes of a disk, with zeros for all others: enough to tell the kind of its partition table.
package struct DiskHeadReader: BlockReader {
    package let bytes: [UInt8]
    /// The length of the head in bytes.
    private static let headByteCount = 1 << 20
    package let byteCount: UInt64
    package let logicalSectorSize: Int
    package let name: String

    package init(of disk: any BlockReader) throws(BlockIOError) {
        bytes = try disk.readBytes(at: 0, count: Int(min(disk.byteCount, UInt64(Self.headByteCount))))
        byteCount = disk.byteCount
        logicalSectorSize = disk.logicalSectorSize
        name = disk.name
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        let start = Int(min(offset, UInt64(bytes.count)))
        let count = min(buffer.count, bytes.count - start)
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        unsafe buffer.copyBytes(from: bytes[start..<start + count])
    }
}
