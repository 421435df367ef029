// SPDX-License-Identifier: GPL-3.0-or-later

/// Decompresses a file of another program sequentially, in pieces.
package protocol StreamDecompressor: AnyObject {
    /// Consumes part of `source` and fills part of `target`, which is not empty.
    /// - Parameter isLast: whether nothing follows `source`.
    /// - Throws: `CodecError` if the stream is damaged, or cut off.
    func decompress(
        _ source: UnsafeRawBufferPointer, isLast: Bool, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> StreamProgress

    /// Whether a part read so far has no checksum, so that damage in it cannot be detected.
    var hasUncheckedParts: Bool { get }
}

/// The result of one step of a decompressor.
package struct StreamProgress: Equatable, Sendable {
    /// The number of bytes consumed.
    package var taken: Int
    /// The number of bytes produced.
    package var made: Int
    /// Whether the stream has ended regularly.
    package var isFinished: Bool
}
