// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import SystemPackage

/// An unnamed sparse file for a decompressed disk. The kernel removes it with the object or the process.
final class DiskScratch: Sendable {
    let folder: FilePath
    let file: OwnedDescriptor
    private let calls: PendingCalls
    /// The space that stays free, in bytes: for other files in the folder, and if the folder is in memory, for the tools
    /// of filesystems.
    private static let reserve: UInt64 = 200 << 20
    private let memoryReserve: UInt64
    /// Runs of zeros of this length are not written, in bytes.
    private static let holeByteCount = 64 << 10

    /// - Parameter memoryReserve: the memory that the rest of the job needs, in bytes.
    init(in folder: FilePath, memoryReserve: UInt64) throws(SystemCallError) {
        let file = try Files.openNameless(in: folder)
        self.memoryReserve = memoryReserve
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

    var name: String { calls.name }

    /// Gives the file the length of the disk. Everything is on the disk below then: an error of a later write, which
    /// nothing else would report, is seen here.
    func finish(_ byteCount: UInt64) throws(SystemCallError) {
        try Files.resize(file.raw, name, to: byteCount)
        try Files.sync(file.raw, name)
    }

    private func hasRoom(for byteCount: UInt64) -> Bool {
        let free = Files.freeByteCount(folder) ?? .max
        let memory = Files.isInMemory(folder) ? SystemFacts.availableMemory() ?? .max : .max
        return free >= byteCount + Self.reserve && memory >= byteCount + max(Self.reserve, memoryReserve)
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
