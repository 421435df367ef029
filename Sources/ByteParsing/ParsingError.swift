// SPDX-License-Identifier: GPL-3.0-or-later

/// Why external bytes could not be parsed.
package enum ParsingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A field is (partly) outside the given bytes. Offsets and counts in bytes.
    case outOfBounds(offset: Int, byteCount: Int, available: Int)
    /// A computed number, named by `what`, does not fit its type.
    case overflow(what: String)
    /// A field holds a value that the format does not allow.
    case invalid(what: String)

    package var description: String {
        switch self {
        case .outOfBounds(let offset, let byteCount, let available):
            "a field of \(byteCount) bytes at byte \(offset) lies outside the \(available) bytes that hold it"
        case .overflow(let what): "\(what) is too large to be true"
        case .invalid(let what): "\(what) is not valid"
        }
    }
}
