// SPDX-License-Identifier: GPL-3.0-or-later

/// Why bytes could not be compressed or decompressed.
package struct CodecError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One sentence part for a person.
    package let description: String

    /// From a sentence part.
    package init(_ description: String) { self.description = description }
}
