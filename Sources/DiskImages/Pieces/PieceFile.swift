// SPDX-License-Identifier: GPL-3.0-or-later
import ImageFiles
import ImageModel
import SystemPackage

/// A piece of a stream as it was first seen. Another file in its place, or a changed one, is never read.
final class PieceFile: Sendable {
    let path: FilePath
    let byteCount: UInt64
    /// The time of its last change, in seconds and nanoseconds since 1970.
    let changed: (seconds: Int64, nanoseconds: Int64)
    /// Kept open for streams of few pieces: an image can have more pieces than a process may have open files.
    private let kept: FileBytes?

    /// The number of pieces up to which all are kept open.
    private static let mostKept = 16

    private init(_ path: FilePath, isKept: Bool) throws(ImageError) {
        let file = try FileBytes(path)
        self.path = path
        (byteCount, changed) = (file.byteCount, file.changed)
        kept = isKept ? file : nil
    }

    static func open(_ stream: PieceStream) throws(ImageError) -> [PieceFile] {
        var files: [PieceFile] = []
        for path in stream.pieces { files.append(try PieceFile(path, isKept: stream.pieces.count <= mostKept)) }
        return files
    }

    var name: String { path.string }

    func open() throws(ImageError) -> FileBytes {
        if let kept { return kept }
        let file = try FileBytes(path)
        guard file.byteCount == byteCount, file.changed == changed else { throw .changed(name: name) }
        return file
    }

    /// Fails if it was changed since it was first seen.
    func confirmUnchanged() throws(ImageError) { try open().confirmUnchanged() }
}
