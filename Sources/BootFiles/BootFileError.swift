// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a boot file could not be read.
package enum BootFileError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes violate their format; `what` is a sentence part.
    case damaged(what: String)
    /// A limit of this program is exceeded; `what` is a sentence part.
    case tooLarge(what: String)
    /// The running machine lacks the program that decompresses this format.
    case noDecoder(format: String, program: String)
    /// The file itself could not be read; `why` is the error's text.
    case unreadable(why: String)

    /// A sentence part.
    package var description: String {
        switch self {
        case .damaged(let what): "it is damaged: \(what)"
        case .tooLarge(let what): "it is larger than Reforge reads: \(what)"
        case .noDecoder(let format, let program):
            "it is compressed with \(format), and this machine has no \(program) to read it"
        case .unreadable(let why): why
        }
    }
}
