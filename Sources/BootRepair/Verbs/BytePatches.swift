// SPDX-License-Identifier: GPL-3.0-or-later

/// Bytes of a disk, and their place.
package struct PlacedBytes: Codable, Equatable, Sendable {
    /// In bytes of the disk.
    package var offset: UInt64
    package var bytes: [UInt8]

    package init(at offset: UInt64, _ bytes: [UInt8]) {
        self.offset = offset
        self.bytes = bytes
    }
}

/// Bytes inside of files that are replaced in place, on the disk, once everything is unmounted: no filesystem driver
/// takes part, and no file changes its length.
package struct BytePatches: Codable, Equatable, Sendable {
    /// A replacement: `from` and `to` have the same length.
    package struct Change: Codable, Equatable, Sendable {
        /// In bytes of the disk.
        package var offset: UInt64
        /// The expected old bytes; with any others, nothing is written.
        package var from: [UInt8]
        package var to: [UInt8]

        package init(at offset: UInt64, from: [UInt8], to: [UInt8]) {
            self.offset = offset
            self.from = from
            self.to = to
        }
    }

    package var changes: [Change]
    /// Bytes that must still be there: the stamps of the files.
    package var unchanged: [PlacedBytes]
    /// The result, as a sentence.
    package var done: String
    /// The failure, as a sentence completed by the reason.
    package var failure: String

    package init(_ changes: [Change], unchanged: [PlacedBytes], done: String, failure: String) {
        self.changes = changes
        self.unchanged = unchanged
        self.done = done
        self.failure = failure
    }
}
