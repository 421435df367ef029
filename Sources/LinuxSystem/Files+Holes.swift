// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

extension Files {
    /// `SEEK_DATA` and `SEEK_HOLE` of lseek(2), which glibc's headers show only to GNU sources.
    private static let (seekData, seekHole): (Int32, Int32) = (3, 4)

    /// Whether the byte at `offset` of a file belongs to data or to a hole, and where that ends; `nil` if the
    /// filesystem cannot tell.
    ///
    /// The corresponding C function is `lseek` with `SEEK_DATA` and `SEEK_HOLE`, which moves the descriptor's position.
    package static func hole(
        in descriptor: FileDescriptor, at offset: UInt64, byteCount: UInt64
    ) -> (isHole: Bool, end: UInt64)? {
        guard let start = Int(exactly: offset), offset < byteCount else { return nil }
        let data = lseek(descriptor.rawValue, start, seekData)
        // ENXIO: a hole up to the end of the file.
        guard data >= 0 else { return errno == ENXIO ? (true, byteCount) : nil }
        guard data <= start else { return (true, min(UInt64(data), byteCount)) }
        let hole = lseek(descriptor.rawValue, start, seekHole)
        return hole > start ? (false, min(UInt64(hole), byteCount)) : nil
    }
}
