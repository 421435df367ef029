// SPDX-License-Identifier: GPL-3.0-or-later

/// Decompresses a file that somebody else made, front to back, in pieces.
public protocol StreamDecompressor: AnyObject {
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
public struct StreamProgress: Equatable, Sendable {
    /// How much it took, in bytes.
    public var taken: Int
    /// How much it made, in bytes.
    public var made: Int
    /// Whether the stream has ended, in order.
    public var isFinished: Bool
}
