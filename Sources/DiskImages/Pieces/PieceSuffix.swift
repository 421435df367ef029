// SPDX-License-Identifier: GPL-3.0-or-later

/// The suffix of a piece, counted up as split(1) does: two to four letters, or three digits.
struct PieceSuffix: Hashable {
    let text: String

    init?(_ text: String) {
        let bytes = Array(text.utf8)
        let isLetters = (2...4).contains(bytes.count) && bytes.allSatisfy { (0x61...0x7A).contains($0) }
        let isDigits = bytes.count == 3 && bytes.allSatisfy { (0x30...0x39).contains($0) }
        guard isLetters || isDigits else { return nil }
        self.text = text
    }

    private init(_ bytes: [UInt8]) { text = String(decoding: bytes, as: UTF8.self) }

    private var bounds: (lowest: UInt8, highest: UInt8) {
        text.utf8.first.map { $0 <= 0x39 } ?? false ? (0x30, 0x39) : (0x61, 0x7A)
    }

    /// The first suffix of this length.
    var first: PieceSuffix { PieceSuffix([UInt8](repeating: bounds.lowest, count: text.utf8.count)) }

    /// The next suffix; after the last one, the first.
    var next: PieceSuffix {
        var bytes = Array(text.utf8)
        for index in bytes.indices.reversed() {
            guard bytes[index] == bounds.highest else {
                bytes[index] += 1
                break
            }
            bytes[index] = bounds.lowest
        }
        return PieceSuffix(bytes)
    }

    /// Whether a file with this suffix is a piece although no piece is before it: other two letters, or the start of a
    /// longer count. `img`, `zst` and `gz` are pieces only where the count reaches them.
    var isLikely: Bool {
        let bytes = Array(text.utf8)
        guard bytes.count > 2, bounds.lowest == 0x61 else { return !Self.otherNames.contains(text) }
        return bytes.dropLast(2).allSatisfy { $0 == 0x61 }
    }

    /// Suffixes of other files.
    private static let otherNames: Set<String> = ["gz", "xz", "lz", "sf", "md", "dd", "sh"]

    /// Files in the order of their suffixes.
    struct Order {
        /// From the first one on, without a gap.
        var pieces: [PieceSuffix] = []
        /// Pieces that no other one leads to: what is before them is missing, or they belong to another stream.
        var strays: [PieceSuffix] = []
    }

    static func order(_ suffixes: some Sequence<PieceSuffix>) -> Order {
        let known = Set(suffixes)
        var order = Order()
        var next = known.map(\.first).filter(known.contains).min { $0.text.utf8.count < $1.text.utf8.count }
        while let piece = next {
            order.pieces.append(piece)
            next = piece.next == piece.first || !known.contains(piece.next) ? nil : piece.next
        }
        let ordered = Set(order.pieces)
        order.strays = known.filter { !ordered.contains($0) && $0.isLikely }.sorted { $0.text < $1.text }
        return order
    }
}
