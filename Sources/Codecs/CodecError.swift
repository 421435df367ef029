// SPDX-License-Identifier: GPL-3.0-or-later

/// Why bytes could not be compressed or decompressed.
public struct CodecError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One sentence part for a person.
    public let description: String

    /// From a sentence part.
    public init(_ description: String) { self.description = description }
}
