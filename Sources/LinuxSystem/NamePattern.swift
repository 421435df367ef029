// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc

/// A pattern of glob(7) for one name. A dot in front is no special character.
package struct NamePattern: Sendable {
    private let pattern: [CChar]

    package init(_ pattern: String) { self.pattern = Names.bytes(Array(pattern.utf8)) }

    /// The corresponding C function is `fnmatch`.
    package func matches(_ name: [UInt8]) -> Bool {
        let text = Names.bytes(name)
        return pattern.withUnsafeBufferPointer { pattern in
            text.withUnsafeBufferPointer { text in
                guard let pattern = pattern.baseAddress, let text = text.baseAddress else { return false }
                return fnmatch(pattern, text, 0) == 0
            }
        }
    }
}
