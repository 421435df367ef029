// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import Synchronization
import SystemPackage

/// What is known of a foreign disk before its streams are read: small files, and the first bytes of each volume, with
/// zeros for everything else. Enough to tell the table and the kinds of the filesystems.
package final class ForeignHead: BlockReader {
    package let byteCount: UInt64
    package let logicalSectorSize: Int
    package let name: String
    /// A sparse file in memory.
    private let file: OwnedDescriptor

    private struct Unread {
        /// The ranges that were written.
        var written: [ByteRange] = []
        var known = AllocationMap(byteCount: 0)
        /// The bytes that the images hold; `nil` until the head is complete.
        var used: AllocationMap?
        var wasMet = false
    }

    private let unread = Mutex(Unread())

    init(_ disk: ForeignDisk) throws(ImageError) {
        byteCount = disk.geometry.byteCount
        logicalSectorSize = disk.geometry.logicalSectorSize
        name = disk.name
        do throws(SystemCallError) {
            file = try .memory("the head of a disk", byteCount: disk.geometry.byteCount)
        } catch {
            throw .system(error)
        }
    }

    /// For libblkid's second opinion.
    package var descriptor: Int32 { file.raw.rawValue }

    func write(_ bytes: [UInt8], at offset: UInt64) throws(ImageError) {
        do {
            try unsafe bytes.withUnsafeBytes { bytes in
                _ = unsafe try file.raw.writeAll(toAbsoluteOffset: Int64(clamping: offset), bytes)
            }
        } catch { throw .system(SystemCallError("write", "a file in memory", error as? Errno ?? .ioError)) }
        if let range = ByteRange(offset: offset, byteCount: UInt64(bytes.count)) {
            unread.withLock { $0.written.append(range) }
        }
    }

    /// Everything is written.
    /// - Parameter used: the bytes that the images hold.
    func complete(_ used: AllocationMap) {
        unread.withLock {
            $0.known = AllocationMap(byteCount: byteCount, unsorted: $0.written)
            $0.written = []
            $0.used = used
        }
    }

    /// Whether `body` reads bytes that the images hold and the head does not: zeros stand for those.
    package func meetsUnread(_ body: () -> Void) -> Bool {
        unread.withLock { $0.wasMet = false }
        body()
        return unread.withLock { $0.wasMet }
    }

    private func noteUnread(_ range: ByteRange) {
        unread.withLock { unread in
            guard let used = unread.used, !unread.wasMet, !range.isEmpty else { return }
            let known = unread.known
            unread.wasMet = used.ranges(in: range).contains { !known.covers($0) }
        }
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failure(_ reason: String, _ errorNumber: Int32 = 0) -> BlockIOError {
            BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: reason)
        }
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else {
            throw failure("that is past its end at byte \(byteCount)")
        }
        noteUnread(offset..<offset + UInt64(buffer.count))
        var done = 0
        while done < buffer.count {
            let count: Int
            do {
                count = unsafe try file.raw.read(
                    fromAbsoluteOffset: Int64(clamping: offset) + Int64(done),
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]))
            } catch {
                let number = error as? Errno ?? .ioError
                throw failure("\(number)", number.rawValue)
            }
            guard count > 0 else { throw failure("it ends too early") }
            done += count
        }
    }
}
