// SPDX-License-Identifier: GPL-3.0-or-later

/// The constants of a repository; RepositoryFormat.md is the specification.
package enum RepositoryFormat {
    /// The version this program writes. A larger major number is refused.
    package static let version: (major: UInt16, minor: UInt16) = (1, 0)
    static let formatName = "reforge repository"

    static let packHeaderTag = Array("RFPAKHDR".utf8)
    static let packRecordTag = Array("RFPB".utf8)
    static let packTableTag = Array("RFPT".utf8)
    static let packEndTag = Array("RFPAKEND".utf8)
    static let indexHeaderTag = Array("RFIDXHDR".utf8)
    static let indexEndTag = Array("RFIDXEND".utf8)
    static let snapshotTag = Array("RFSNAPSH".utf8)
    static let proofTag = Array("RFPROOFS".utf8)

    /// Feature bits of a file; unknown ones are refused. Bit 0: the file is sealed.
    static let sealedFlag: UInt32 = 1

    /// The length added by the protection of a part of a file, sealed or not.
    static let protectionByteCount = 28
    /// A page of an index.
    static let pageByteCount = 4096
    /// An entry of an index or of a pack's table.
    static let entryByteCount = 48
    /// The entries of a page: they fit together with 8 bytes of head and the protection.
    static let entriesPerPage = 84
    /// The length of the separately protected blocks of an index's tables, in bytes.
    static let blockByteCount = 1 << 20
    /// A pack is finished once it has this length, in bytes: it exceeds it by at most one blob.
    static let packTarget = 64 << 20
    /// A pack is finished once it has this many blobs, so that its table stays small.
    static let largestPackBlobCount = 65_536
    /// The number of grid chunks that a list piece or map piece describes.
    static let pieceChunkCount = 1024
    /// The longest content of a list piece or map piece, in bytes.
    static let largestPiece = 32 << 20
    /// Upper bound on the ranges in all maps of a snapshot: 256 MiB in memory.
    static let largestMapRangeCount = 1 << 24
    /// The longest payload of a snapshot, in bytes.
    static let largestSnapshot = 256 << 20
}

/// The kind of a stored content. Part of the context of its seal, and of its key in an index.
package enum BlobKind: UInt8, Sendable, CaseIterable {
    /// A chunk of a disk.
    case data = 0
    /// A piece of a region's chunk list.
    case list = 1
    /// A piece of a region's allocation map.
    case map = 2
}
