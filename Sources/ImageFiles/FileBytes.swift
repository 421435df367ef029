// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Glibc
import ImageModel
import LinuxSystem
import SystemPackage

// Glibc: for the members of timespec.

/// The bytes of an open file, readable at any offset and from any thread.
package final class FileBytes: Sendable {
    private let file: OwnedDescriptor
    private let calls: PendingCalls
    /// The name in messages.
    package let name: String
    /// The length at the time of opening, in bytes.
    package let byteCount: UInt64
    /// The time of its last change when it was opened, in seconds and nanoseconds since 1970.
    package let changed: (seconds: Int64, nanoseconds: Int64)

    /// - Parameter name: the name in messages; `nil` for the path.
    /// - Throws: `ImageError.foreign` if it is not a regular file.
    package init(_ path: FilePath, name: String? = nil) throws(ImageError) {
        self.name = name ?? path.string
        do { file = try OwnedDescriptor.open(path, .readOnly) } catch { throw .system(error) }
        calls = PendingCalls(path.string, on: file.raw)
        let status: Stat
        do { status = try Stat(file.raw) } catch { throw .system(SystemCallError("inspect", path.string, error)) }
        guard status.type == .regular else {
            throw .foreign(name: path.string, why: "it is not a regular file, which this format needs")
        }
        byteCount = UInt64(max(0, status.size))
        changed = (Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec))
    }

    /// Fails if the contents of the open file were changed since it was opened. The time of its inode does not count: a
    /// backup that makes a hard link of the file changes that.
    package func confirmUnchanged() throws(ImageError) {
        let status: Stat
        do { status = try Stat(file.raw) } catch { throw .system(SystemCallError("inspect", name, error)) }
        let time = (Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec))
        guard UInt64(max(0, status.size)) == byteCount, time == changed else { throw .changed(name: name) }
    }

    /// Reads into `target` from `offset` on.
    /// - Returns: the number of bytes: fewer than requested only at the end of the file.
    package func readSome(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) -> Int {
        guard let start = Int64(exactly: offset), start <= Int64.max - Int64(target.count) else {
            throw .truncated(name: name, at: byteCount)
        }
        var done = 0
        while done < target.count {
            let count: Int
            do {
                count = try calls.during(.read) {
                    unsafe try file.raw.read(
                        fromAbsoluteOffset: start + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
                }
            } catch {
                throw .system(SystemCallError("read", name, error as? Errno ?? .ioError))
            }
            guard count > 0 else { break }
            done += count
        }
        return done
    }

    /// Fills `target` from `offset` on.
    package func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) {
        let count = unsafe try readSome(into: target, at: offset)
        guard count == target.count else { throw .truncated(name: name, at: offset + UInt64(count)) }
    }

    /// `count` bytes from `offset` on.
    package func bytes(at offset: UInt64, count: Int) throws(ImageError) -> [UInt8] {
        guard offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw .truncated(name: name, at: byteCount)
        }
        var result = [UInt8](repeating: 0, count: count)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try read(into: buffer, at: offset) }
        }
        try outcome.get()
        return result
    }

    /// The payload of a skippable frame, and the offset of the next one.
    func frame(at offset: UInt64, limit: Int) throws(ImageError) -> (payload: [UInt8], next: UInt64) {
        let head = try bytes(at: offset, count: 8)
        guard let magic = try? head.littleEndian(UInt32.self, at: 0), magic == ImageFormat.skippableMagic,
            let count = try? Int(head.littleEndian(UInt32.self, at: 4)), count <= limit
        else {
            throw .damaged(name: name, what: "a frame's mark", fileOffset: offset, disk: nil, partition: nil)
        }
        return (try bytes(at: offset + 8, count: count), offset + 8 + UInt64(count))
    }
}
