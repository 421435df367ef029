// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem
import SystemPackage

/// A file as a stream.
final class FileStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let file: OwnedDescriptor
    private let name: String
    private static let stepByteCount = 1 << 18

    init(_ file: consuming OwnedDescriptor, _ name: String) {
        self.file = file
        self.name = name
    }

    func next() throws(BootFileError) -> [UInt8] {
        do {
            return try [UInt8](unsafeUninitializedCapacity: Self.stepByteCount) { buffer, count in
                count = try file.raw.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        } catch {
            throw .unreadable(why: "\(SystemCallError("read", name, error as? Errno ?? .ioError))")
        }
    }
}
