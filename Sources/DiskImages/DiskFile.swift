// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageFiles
import ImageModel
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

    /// Checks the end of the disk.
    /// - Throws: `ImageError.changed` if the file changed since it was opened, or holds more than `byteCount`.
    func confirmEnd() throws(ImageError)
}

extension DiskFile {
    package var failure: ImageError? { nil }
}

/// Checks that all disk formats share.
enum DiskHead {
    /// The logical sector size of a disk, by its first 8 KiB: 4096 if a GPT header is at byte 4096 and none at byte 512
    /// (UEFI 2.10 §5.3.2: the header is in LBA 1), else 512.
    static func sectorSize(_ head: [UInt8]) -> Int {
        let signature = Array("EFI PART".utf8)
        let isAt4096 = head.dropFirst(4096).starts(with: signature)
        return isAt4096 && !head.dropFirst(512).starts(with: signature) ? 4096 : 512
    }

    /// - Throws: `ImageError.changed` if the length or time of the file changed since it was opened.
    static func confirmUnchanged(_ file: FileBytes) throws(ImageError) {
        let now = try FileBytes(FilePath(file.name))
        guard now.byteCount == file.byteCount, now.changed == file.changed else {
            throw .changed(name: file.name)
        }
    }
}

/// The first MiB of a disk, followed by zeros: enough to detect the kind of its partition table.
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
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        let start = Int(min(offset, UInt64(bytes.count)))
        let count = min(buffer.count, bytes.count - start)
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        unsafe buffer.copyBytes(from: bytes[start..<start + count])
    }
}
