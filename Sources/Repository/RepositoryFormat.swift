// SPDX-License-Identifier: GPL-3.0-or-later

/// The constants of a repository; RepositoryFormat.md is the specification.
package enum RepositoryFormat {
    /// The version that this program writes. A larger major number is refused.
    package static let version: (major: UInt16, minor: UInt16) = (1, 0)
    static let formatName = "reforge repository"

    static let packHeaderTag = Array("RFPAKHDR".utf8)
    static let packRecordTag = Array("RFPB".utf8)
    static let packTableTag = Array("RFPT".utf8)
    static let packEndTag = Array("RFPAKEND".utf8)
    static let indexHeaderTag = Array("RFIDXHDR".utf8)
    static let indexEndTag = Array("RFIDXEND".utf8)
    static let snapshotTag = Array("RFSNAPSH".utf8)

    /// Which features of the format a file uses, as bits; unknown ones are refused. Bit 0: it is sealed.
    static let sealedFlag: UInt32 = 1

    /// What protects a part of a file adds this many bytes, sealed or not.
    static let protectionByteCount = 28
    /// A page of an index.
    static let pageByteCount = 4096
    /// An entry of an index or of a pack's table.
    static let entryByteCount = 48
    /// Entries in a page: with 8 bytes of head and the protection, they fit.
    static let entriesPerPage = 84
    /// The parts in which an index' tables are protected, in bytes.
    static let blockByteCount = 1 << 20
    /// A pack is finished once it is this long, in bytes: at most one blob longer.
    static let packTarget = 64 << 20
    /// A pack is finished once it has this many blobs, so that its table stays small.
    static let largestPackBlobCount = 65_536
    /// How many chunks of a region's grid a piece of its list describes, and a piece of its map.
    static let pieceChunkCount = 1024
    /// The longest content of a list piece or map piece, in bytes.
    static let largestPiece = 32 << 20
    /// The most ranges that the maps of a snapshot have together: 256 MiB in memory.
    static let largestMapRangeCount = 1 << 24
    /// The longest payload of a snapshot, in bytes.
    static let largestSnapshot = 256 << 20
}

/// What a stored content is. Part of the context of its seal, and of its key in an index.
package enum BlobKind: UInt8, Sendable, CaseIterable {
    /// A chunk of a disk.
    case data = 0
    /// A piece of a region's chunk list.
    case list = 1
    /// A piece of a region's allocation map.
    case map = 2
}
