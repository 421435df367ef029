// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import Filesystems

/// A file on FAT, or a part of it, as a stream; nothing is mounted.
final class FATFileStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let file: FATFile
    private var position: UInt64
    private let end: UInt64
    private static let stepByteCount: UInt64 = 1 << 18

    /// - Parameter range: the part to read, in bytes, clamped to the file.
    init(_ file: FATFile, _ range: Range<Int>? = nil) {
        self.file = file
        end = min(file.byteCount, range.map { UInt64($0.upperBound) } ?? .max)
        position = min(end, range.map { UInt64($0.lowerBound) } ?? 0)
    }

    func next() throws(BootFileError) -> [UInt8] {
        guard position < end else { return [] }
        do throws(FilesystemError) {
            let bytes = try file.read(at: position, count: Int(min(Self.stepByteCount, end - position)))
            position += UInt64(bytes.count)
            return bytes
        } catch { throw .unreadable(why: "\(error)") }
    }
}
