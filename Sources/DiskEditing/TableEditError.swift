// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a partition table could not be made for a disk.
package struct TableEditError: Error, Sendable, CustomStringConvertible {
    /// One sentence for a person.
    package let description: String

    /// From a sentence.
    package init(_ description: String) { self.description = description }
}
