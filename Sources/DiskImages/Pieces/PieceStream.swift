// SPDX-License-Identifier: GPL-3.0-or-later
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// Files that, joined in order, are one stream. Its compression is found by its magic number.
package struct PieceStream: Sendable {
    package var pieces: [FilePath]

    package init(_ pieces: [FilePath]) { self.pieces = pieces }

    /// All pieces of the stream whose first piece is `path`: `NAME.aa .ab …`, `NAME.aaa …`, `NAME.000 .001 …`, as
    /// split(1) names them; any other file is a stream of its own.
    /// - Throws: `ImageError.refused` if `path` is a later piece, or a piece between two others is missing.
    package static func find(from path: FilePath) throws(ImageError) -> PieceStream {
        guard let name = path.lastComponent?.string, let dot = name.lastIndex(of: "."),
            let given = PieceSuffix(String(name[name.index(after: dot)...])), given.isLikely
        else { return PieceStream([path]) }
        let folder = path.removingLastComponent()
        let stem = String(name[...dot])
        let names: [String]
        do { names = try Files.allNames(in: folder.isEmpty ? "." : folder) } catch { throw .system(error) }
        let order = PieceSuffix.order(
            names.filter { $0.hasPrefix(stem) }.compactMap { PieceSuffix(String($0.dropFirst(stem.count))) }
                .filter { $0.first == given.first })
        func file(_ suffix: PieceSuffix) -> FilePath { folder.appending(stem + suffix.text) }
        guard let first = order.pieces.first, let last = order.pieces.last else {
            // A single file with such a suffix is no piece: `disk.bin.aa` alone is whole, `disk.001` begins nothing.
            guard order.strays.contains(where: { $0 == given.next || $0.next == given }) else {
                return PieceStream([path])
            }
            throw .refused("\(file(given.first)) is missing: it is the first piece. Copy it there, and give that")
        }
        guard order.strays.isEmpty else {
            throw .refused(
                "\(file(last.next)) is missing between the pieces of an image: without it, nothing behind it can be "
                    + "read. Copy it there")
        }
        guard given == first else {
            throw .refused("\(path) is a later piece of an image: give the first one, \(file(first))")
        }
        return PieceStream(order.pieces.map(file))
    }
}
