// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension FileDescriptor {
    /// Copies the first bytes of a file; its holes stay holes.
    /// - Returns: the bytes copied.
    func copySparse(of source: FileDescriptor, byteCount: UInt64) throws -> UInt64 {
        try resize(to: Int64(clamping: byteCount))
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var (position, copied): (UInt64, UInt64) = (0, 0)
        while let range = try TreeNode.nextData(of: source, from: position, byteCount: byteCount) {
            position = range.lowerBound
            while position < range.upperBound {
                let wanted = Int(min(UInt64(buffer.count), range.upperBound - position))
                let count = try buffer.withUnsafeMutableBytes {
                    try source.read(
                        fromAbsoluteOffset: Int64(position),
                        into: UnsafeMutableRawBufferPointer(rebasing: $0[..<wanted]))
                }
                guard count > 0 else { throw Errno.ioError }
                _ = try writeAll(toAbsoluteOffset: Int64(position), buffer[..<count])
                position += UInt64(count)
                copied += UInt64(count)
            }
        }
        return copied
    }
}
