// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Bytes written now and read once, later: in memory up to a limit, else in an unnamed file, so that a capture of any
/// length needs the same memory.
struct SpilledBytes: ~Copyable {
    /// Upper bound on the bytes in memory.
    private let limit: Int
    /// The folder of the file.
    private let folder: FilePath
    private var memory: [UInt8] = []
    private var file: OwnedDescriptor?
    /// The number of bytes.
    private(set) var byteCount: UInt64 = 0

    init(in folder: FilePath, limit: Int = 16 << 20) {
        self.folder = folder
        self.limit = limit
    }

    /// Adds bytes at the end.
    mutating func append(_ bytes: [UInt8]) throws(SystemCallError) {
        memory += bytes
        byteCount += UInt64(bytes.count)
        guard memory.count > limit else { return }
        if file == nil { file = try Files.openNameless(in: folder) }
        do { _ = try file?.raw.writeAll(memory) } catch {
            throw SystemCallError("write the index to", "\(folder)", error as? Errno ?? .ioError)
        }
        memory.removeAll(keepingCapacity: true)
    }

    /// Passes all bytes to `body`, in order and in pieces.
    mutating func drain(_ body: ([UInt8]) throws -> Void) throws {
        if let descriptor = file?.raw {
            let end = byteCount - UInt64(memory.count)
            var position: UInt64 = 0
            while position < end {
                let count = Int(min(1 << 20, end - position))
                let bytes = unsafe try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
                    filled = unsafe try descriptor.read(
                        fromAbsoluteOffset: Int64(position), into: UnsafeMutableRawBufferPointer(buffer))
                }
                guard !bytes.isEmpty else { throw SystemCallError("read the index from", "\(folder)", .ioError) }
                try body(bytes)
                position += UInt64(bytes.count)
            }
        }
        try body(memory)
        memory = []
    }
}
