// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import SystemPackage

/// An open file of a repository, read at known places from any thread. It stays readable when somebody removes it.
final class StoreFile: Sendable {
    let path: FilePath
    let byteCount: UInt64
    private let file: OwnedDescriptor
    private let pending: PendingCalls

    init(_ path: FilePath) throws(ImageError) {
        self.path = path
        let file: OwnedDescriptor
        do { file = try OwnedDescriptor.open(path, .readOnly) } catch { throw .system(error) }
        do { byteCount = UInt64(max(0, try Stat(file.raw).size)) } catch {
            throw .system(SystemCallError("inspect", path.string, error))
        }
        pending = PendingCalls(path.string, on: file.raw)
        self.file = file
    }

    /// `count` bytes from `offset` on.
    func bytes(at offset: UInt64, count: Int) throws(ImageError) -> [UInt8] {
        // Before memory is taken for them.
        guard count >= 0, offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw .truncated(name: path.string, at: byteCount)
        }
        var result = [UInt8](repeating: 0, count: count)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try read(into: buffer, at: offset) }
        }
        try outcome.get()
        return result
    }

    /// Fills all of `buffer` from `offset` on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) {
        guard let start = Int64(exactly: offset), start <= Int64.max - Int64(buffer.count) else {
            throw .truncated(name: path.string, at: byteCount)
        }
        var done = 0
        while done < buffer.count {
            let part: Int
            do {
                part = try pending.during(.read) {
                    unsafe try file.raw.read(
                        fromAbsoluteOffset: start + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]))
                }
            } catch {
                throw .system(
                    SystemCallError(
                        "read \(buffer.count) bytes at byte \(offset) of", path.string, error as? Errno ?? .ioError))
            }
            guard part > 0 else { throw .truncated(name: path.string, at: offset + UInt64(done)) }
            done += part
        }
    }
}
