// SPDX-License-Identifier: GPL-3.0-or-later

/// Bounds on the work and memory that one initramfs may cost.
package struct InitramfsLimits: Equatable, Sendable {
    /// The bytes that it unpacks to, over all segments. Generic ones with firmware: some 300 MB.
    package var unpackedByteCount: UInt64
    /// The number of entries. A generic dracut has some 5,000.
    package var entryCount: Int
    /// The length of all names together, in bytes.
    package var nameByteCount: Int
    /// The length of one kept file, in bytes; a longer one is skipped.
    package var fileByteCount: Int
    /// The number of kept files.
    package var fileCount: Int

    package init(
        unpackedByteCount: UInt64 = 2 << 30, entryCount: Int = 200_000, nameByteCount: Int = 32 << 20,
        fileByteCount: Int = 256 << 10, fileCount: Int = 64
    ) {
        self.unpackedByteCount = unpackedByteCount
        self.entryCount = entryCount
        self.nameByteCount = nameByteCount
        self.fileByteCount = fileByteCount
        self.fileCount = fileCount
    }

    /// Compressed segments, in all.
    static let compressedCount = 1000
    /// Compressed segments inside compressed segments.
    static let depth = 4
}
