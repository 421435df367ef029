// SPDX-License-Identifier: GPL-3.0-or-later
import ImageFiles
import ImageModel
import SystemPackage

/// The bytes of a stream's pieces, joined, front to back. Used by one thread at a time.
final class PieceBytes: @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    let files: [PieceFile]
    let byteCount: UInt64
    private(set) var position: UInt64 = 0
    private var index = 0
    private var offset: UInt64 = 0
    /// The piece at `index`, once it is read.
    private var open: FileBytes?

    init(_ files: [PieceFile]) {
        self.files = files
        byteCount = files.reduce(0) { $0.addingReportingOverflow($1.byteCount).partialValue }
    }

    /// The piece at the current position, and the offset in it, for messages.
    var place: (name: String, offset: UInt64) {
        (files.isEmpty ? "" : files[min(index, files.count - 1)].name, offset)
    }

    var isAtEnd: Bool { position >= byteCount }

    /// Reads the next bytes.
    /// - Returns: the number of bytes; 0 only at the end.
    func read(into target: UnsafeMutableRawBufferPointer) throws(ImageError) -> Int {
        while index < files.count {
            let file = files[index]
            let count = Int(min(UInt64(target.count), file.byteCount - offset))
            if count > 0 {
                let bytes = if let open { open } else { try file.open() }
                open = bytes
                unsafe try bytes.read(into: UnsafeMutableRawBufferPointer(rebasing: target[..<count]), at: offset)
                offset += UInt64(count)
                position += UInt64(count)
                return count
            }
            guard index + 1 < files.count else { break }
            index += 1
            offset = 0
            open = nil
        }
        return 0
    }
}
