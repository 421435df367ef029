// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import SystemPackage

/// An unnamed sparse file for a decompressed disk. The kernel removes it with the object or the process.
final class DiskScratch: Sendable {
    let folder: FilePath
    let file: OwnedDescriptor
    private let calls: PendingCalls
    /// The free space to leave, in bytes: for other files in the folder or, if the folder is in memory, for filesystem
    /// tools.
    private static let reserve: UInt64 = 200 << 20
    /// The unit in which zeros are left as holes, in bytes.
    private static let holeByteCount = 64 << 10

    /// `nil` if the folder does not support unnamed files.
    init?(in folder: FilePath) {
        guard let file = try? Files.openNameless(in: folder) else { return nil }
        self.folder = folder
        calls = PendingCalls("the scratch in \(folder)", on: file.raw)
        self.file = file
    }

    /// Writes bytes, and leaves holes for zeros.
    /// - Returns: `false` if there is too little space, or a write fails.
    func write(_ bytes: [UInt8], at offset: UInt64) -> Bool {
        guard hasRoom(for: UInt64(bytes.count)), let place = Int64(exactly: offset) else { return false }
        return unsafe bytes.withUnsafeBytes { bytes in
            var start = 0
            while start < bytes.count {
                let end = min(bytes.count, start + Self.holeByteCount)
                let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[start..<end])
                if unsafe !ZeroTest.isZero(part), unsafe !write(part, at: place + Int64(start)) { return false }
                start = end
            }
            return true
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = calls.during(.write) {
                unsafe try? file.raw.write(
                    toAbsoluteOffset: offset + Int64(done), UnsafeRawBufferPointer(rebasing: bytes[done...]))
            }
            guard let count, count > 0 else { return false }
            done += count
        }
        return true
    }

    /// Sets the length of the file to that of the disk.
    func finish(_ byteCount: UInt64) -> Bool {
        (try? Files.resize(file.raw, folder.string, to: byteCount)) != nil
    }

    private func hasRoom(for byteCount: UInt64) -> Bool {
        let free = Files.freeByteCount(folder) ?? .max
        let memory = Files.isInMemory(folder) ? SystemFacts.availableMemory() ?? .max : .max
        return min(free, memory) >= byteCount + Self.reserve
    }

    /// Fills `target` from `offset` on.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) {
        var done = 0
        while done < target.count {
            let count: Int
            do {
                count = try calls.during(.read) {
                    unsafe try file.raw.read(
                        fromAbsoluteOffset: Int64(clamping: offset) + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
                }
            } catch {
                throw SystemCallError("read", calls.name, error as? Errno ?? .ioError)
            }
            guard count > 0 else { throw SystemCallError("read", calls.name, .ioError) }
            done += count
        }
    }
}
