// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a partition table could not be adapted to a disk.
package struct TableEditError: Error, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
