// SPDX-License-Identifier: GPL-3.0-or-later

/// Why bytes from outside could not be read as what they claim to be.
package enum ParsingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A field lies (partly) outside the bytes at hand. Offsets and counts in bytes.
    case outOfBounds(offset: Int, byteCount: Int, available: Int)
    /// A computed number does not fit its type: `what` names it.
    case overflow(what: String)
    /// A field holds a value that the format does not allow.
    case invalid(what: String)

    /// One sentence for a person.
    package var description: String {
        switch self {
        case .outOfBounds(let offset, let byteCount, let available):
            "a field of \(byteCount) bytes at byte \(offset) lies outside the \(available) bytes that hold it"
        case .overflow(let what): "\(what) is too large to be true"
        case .invalid(let what): "\(what) is not valid"
        }
    }
}
