// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs

/// The key of a stored content: its id and kind. Ordered as in an index: by the bytes of the id, then by kind.
struct BlobKey: Hashable, Comparable, Sendable {
    /// The id as four numbers, the first bytes the most significant.
    let words: (UInt64, UInt64, UInt64, UInt64)
    let kind: BlobKind

    init(_ id: ContentHash, _ kind: BlobKind) {
        self.init(idBytes: id.bytes, kind)
    }

    /// From the 32 bytes of an id (a programming error otherwise).
    private init(idBytes bytes: [UInt8], _ kind: BlobKind) {
        var words: [UInt64] = []
        for start in stride(from: 0, to: 32, by: 8) {
            words.append(bytes[start..<start + 8].reduce(0) { $0 << 8 | UInt64($1) })
        }
        self.words = (words[0], words[1], words[2], words[3])
        self.kind = kind
    }

    init(words: (UInt64, UInt64, UInt64, UInt64), _ kind: BlobKind) {
        self.words = words
        self.kind = kind
    }

    var idBytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(32)
        for word in [words.0, words.1, words.2, words.3] { bytes.appendLittleEndian(word.byteSwapped) }
        return bytes
    }

    var id: ContentHash {
        guard let id = ContentHash(bytes: idBytes) else { preconditionFailure("an id has 32 bytes") }
        return id
    }

    static func == (a: BlobKey, b: BlobKey) -> Bool { a.words == b.words && a.kind == b.kind }

    static func < (a: BlobKey, b: BlobKey) -> Bool {
        if a.words.0 != b.words.0 { return a.words.0 < b.words.0 }
        if a.words.1 != b.words.1 { return a.words.1 < b.words.1 }
        if a.words.2 != b.words.2 { return a.words.2 < b.words.2 }
        if a.words.3 != b.words.3 { return a.words.3 < b.words.3 }
        return a.kind.rawValue < b.kind.rawValue
    }

    /// Feeds the first bytes: they are as good as random.
    func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(kind.rawValue)
    }
}

/// Where a content is stored.
struct BlobLocation: Hashable, Sendable {
    /// The pack.
    var pack: StoreName
    /// Offset of the stored bytes in the pack.
    var offset: UInt32
    /// Their length.
    var storedByteCount: UInt32
    /// The length of the content: below 2^28.
    var contentByteCount: UInt32
}

/// A content and one place where it is stored.
struct IndexEntry: Hashable, Sendable {
    var key: BlobKey
    var location: BlobLocation
}
