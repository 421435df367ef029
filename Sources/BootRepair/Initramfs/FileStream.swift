// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem
import SystemPackage

/// A file, or a part of it, as a stream.
final class FileStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let file: OwnedDescriptor
    private let name: String
    /// The bytes up to the end of the part.
    private var left = Int.max
    private static let stepByteCount = 1 << 18

    init(_ file: consuming OwnedDescriptor, _ name: String) {
        self.file = file
        self.name = name
    }

    /// Continues with a part of the file, in bytes.
    func move(to range: Range<Int>) throws(BootFileError) {
        do { try file.raw.seek(offset: Int64(range.lowerBound), from: .start) } catch {
            throw .unreadable(why: "\(SystemCallError("seek", name, error as? Errno ?? .ioError))")
        }
        left = range.count
    }

    /// The next bytes; fewer than `count` only at the end.
    func bytes(count: Int) throws(BootFileError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try next(atMost: count - bytes.count)
            if more.isEmpty { break }
            bytes += more
        }
        return bytes
    }

    func next() throws(BootFileError) -> [UInt8] { try next(atMost: Self.stepByteCount) }

    private func next(atMost count: Int) throws(BootFileError) -> [UInt8] {
        guard left > 0 else { return [] }
        let bytes: [UInt8]
        do {
            bytes = try [UInt8](unsafeUninitializedCapacity: min(count, left)) { buffer, made in
                made = try file.raw.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        } catch {
            throw .unreadable(why: "\(SystemCallError("read", name, error as? Errno ?? .ioError))")
        }
        left -= bytes.count
        return bytes
    }
}
