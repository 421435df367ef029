// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// An open file of a local store. It remains readable after its removal.
final class LocalReader: ObjectReader {
    let byteCount: UInt64
    private let path: FilePath
    private let file: OwnedDescriptor
    private let pending: PendingCalls

    init(_ path: FilePath) throws(SystemCallError) {
        self.path = path
        let file = try OwnedDescriptor.open(path, .readOnly)
        do { byteCount = UInt64(max(0, try Stat(file.raw).size)) } catch {
            throw SystemCallError("inspect", path.string, error)
        }
        pending = PendingCalls(path.string, on: file.raw)
        self.file = file
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int {
        guard let start = Int64(exactly: offset), start <= Int64.max - Int64(buffer.count) else { return 0 }
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
                throw SystemCallError(
                    "read \(buffer.count) bytes at byte \(offset) of", path.string, error as? Errno ?? .ioError)
            }
            guard part > 0 else { break }
            done += part
        }
        return done
    }
}
