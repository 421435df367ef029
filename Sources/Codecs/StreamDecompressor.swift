// SPDX-License-Identifier: GPL-3.0-or-later

/// Decompresses a file that somebody else made, front to back, in pieces.
package protocol StreamDecompressor: AnyObject {
    /// Takes some of `source` and fills some of `target`, which is not empty.
    /// - Parameter isLast: whether nothing follows `source`.
    /// - Throws: `CodecError` where the stream is damaged, or cut off.
    func decompress(
        _ source: UnsafeRawBufferPointer, isLast: Bool, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> StreamProgress

    /// Whether a part seen so far carries no checksum, so that damage in it cannot be noticed.
    var hasUncheckedParts: Bool { get }
}

/// What one step of a decompressor did.
package struct StreamProgress: Equatable, Sendable {
    /// How much it took, in bytes.
    package var taken: Int
    /// How much it made, in bytes.
    package var made: Int
    /// Whether the stream has ended, in order.
    package var isFinished: Bool
}
