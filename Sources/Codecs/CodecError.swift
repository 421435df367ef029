// SPDX-License-Identifier: GPL-3.0-or-later

/// Why bytes could not be compressed or decompressed.
package struct CodecError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One sentence part for messages.
    package let description: String

    package init(_ description: String) { self.description = description }
}
