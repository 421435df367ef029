// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a partition table could not be made for a disk.
public struct TableEditError: Error, Sendable, CustomStringConvertible {
    /// One sentence for a person.
    public let description: String

    /// From a sentence.
    public init(_ description: String) { self.description = description }
}
