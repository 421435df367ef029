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
        guard let name = path.lastComponent?.string, let dot = name.lastIndex(of: ".") else {
            return PieceStream([path])
        }
        let suffix = String(name[name.index(after: dot)...])
        guard PieceSuffix(suffix) != nil else { return PieceStream([path]) }
        let folder = path.removingLastComponent()
        let stem = String(name[...dot])
        let names: [String]
        do { names = try Files.allNames(in: folder.isEmpty ? "." : folder) } catch { throw .system(error) }
        let pieces = names.filter { $0.hasPrefix(stem) && $0.dropFirst(stem.count).utf8.count == suffix.utf8.count }
            .compactMap { PieceSuffix(String($0.dropFirst(stem.count))) }
            .sorted { $0.text < $1.text }
        // A single file with such a suffix is no piece: `disk.bin.aa` alone is whole, `disk.001` begins nothing.
        guard let first = pieces.first, first.isFirst else {
            if pieces.count <= 1 { return PieceStream([path]) }
            throw .refused(
                "\(folder.appending(stem + (pieces.first?.first ?? suffix))) is missing: it is the first piece")
        }
        guard suffix == first.text else {
            throw .refused(
                "\(path) is a later piece of an image: give the first one, \(folder.appending(stem + first.text))")
        }
        var expected = first
        for piece in pieces {
            guard piece == expected else {
                throw .refused(
                    "\(folder.appending(stem + expected.text)) is missing between the pieces of an image: without it, "
                        + "nothing behind it can be read. Copy it there")
            }
            expected = expected.next
        }
        return PieceStream(pieces.map { folder.appending(stem + $0.text) })
    }

    /// Whether a suffix of a file name is that of a first piece.
    package static func isFirstSuffix(_ suffix: String) -> Bool { PieceSuffix(suffix)?.isFirst ?? false }
}

/// The suffix of a piece: two or more letters, or three digits, counted up.
struct PieceSuffix: Equatable {
    let text: String
    private let lowest: UInt8
    private let highest: UInt8

    init?(_ text: String) {
        let bytes = Array(text.utf8)
        if bytes.count >= 2, bytes.count <= 4, bytes.allSatisfy({ (0x61...0x7A).contains($0) }) {
            // Three letters or more only as split counts them: `img`, `zst` and `raw` are no pieces.
            guard bytes.count == 2 || bytes.starts(with: [UInt8](repeating: 0x61, count: bytes.count - 2)) else {
                return nil
            }
            // These name formats.
            guard !["gz", "xz", "lz", "sf", "md"].contains(text) else { return nil }
            (lowest, highest) = (0x61, 0x7A)
        } else if bytes.count == 3, bytes.allSatisfy({ (0x30...0x39).contains($0) }) {
            (lowest, highest) = (0x30, 0x39)
        } else {
            return nil
        }
        self.text = text
    }

    private init(_ bytes: [UInt8], _ lowest: UInt8, _ highest: UInt8) {
        text = String(decoding: bytes, as: UTF8.self)
        (self.lowest, self.highest) = (lowest, highest)
    }

    /// The first suffix of this length.
    var first: String { String(decoding: [UInt8](repeating: lowest, count: text.utf8.count), as: UTF8.self) }
    var isFirst: Bool { text == first }

    /// The next suffix; after the last one, the first.
    var next: PieceSuffix {
        var bytes = Array(text.utf8)
        for index in bytes.indices.reversed() {
            guard bytes[index] == highest else {
                bytes[index] += 1
                break
            }
            bytes[index] = lowest
        }
        return PieceSuffix(bytes, lowest, highest)
    }
}
