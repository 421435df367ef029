// SPDX-License-Identifier: GPL-3.0-or-later

/// The replacement of an identifier as `blkid` shows it: a UUID, a volume id of FAT (`5EED-0002`), or a serial number of
/// NTFS (16 hexadecimal digits).
package struct IdentifierChange: Codable, Hashable, Sendable, CustomStringConvertible {
    package var old: String
    package var new: String

    package init(_ old: String, to new: String) {
        self.old = old
        self.new = new
    }

    package var description: String { "\(old) → \(new)" }
}
