// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import SystemPackage

/// The pieces of a stream that was cut by split(1), put in order by their suffixes: letters (`aa`, `ab`, …) or digits
/// (`000`, `001`, …).
struct ForeignPieces {
    /// The number of the piece, from its suffix; `nil` if it is no suffix.
    static func number(_ suffix: some StringProtocol) -> Int? {
        let bytes = Array(suffix.utf8)
        guard (2...3).contains(bytes.count) else { return nil }
        if bytes.allSatisfy({ (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }) {
            return bytes.reduce(0) { $0 * 26 + Int($1 - UInt8(ascii: "a")) }
        }
        if bytes.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) {
            return bytes.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
        }
        return nil
    }

    /// - Parameters:
    ///   - base: the common part of the names, with the dot before the suffix.
    ///   - suffixes: those that the folder has; an empty one stands for a stream that is in one file, `base` itself.
    static func stream(
        _ base: String, _ suffixes: [String], in folder: ForeignFolder
    ) throws(ImageError) -> PieceStream {
        let isWhole = suffixes.contains("")
        guard !isWhole || suffixes.count == 1 else {
            throw folder.refusal(
                "it has both \(base) and pieces of it (\(base).\(suffixes.max() ?? "")): remove what does not belong "
                    + "to this image")
        }
        let ordered = suffixes.sorted { (Self.number($0) ?? 0, $0.count) < (Self.number($1) ?? 0, $1.count) }
        var pieces: [FilePath] = []
        for (index, suffix) in ordered.enumerated() {
            let name = isWhole ? base : "\(base).\(suffix)"
            guard isWhole || (Self.number(suffix) == index && suffix.count == ordered[0].count) else {
                throw .missing(
                    "\(folder.path): a piece of \(base) is missing, or does not belong to it: \(name) is number "
                        + "\((Self.number(suffix) ?? 0) + 1) by its name, and \(index) come before it. Put all pieces "
                        + "into the folder")
            }
            if let file = try folder.file(name) { pieces.append(file) }
        }
        return PieceStream(pieces)
    }
}
