// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Why a registry hive, or what it holds, cannot be used.
package enum WindowsFileError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes are no registry hive.
    case notAHive
    /// Windows has changes of the hive that are not in it yet; the text is a sentence part that names the sign.
    case dirty(String)
    /// The bytes contradict each other or the format; the text is a sentence part that names the problem.
    case damaged(String)
    /// The hive exceeds the limit of the reader, in bytes.
    case tooLarge(byteCount: Int)

    package var description: String {
        switch self {
        case .notAHive: "it is no registry hive"
        case .dirty(let sign): "Windows has changes that are not yet in it: \(sign)"
        case .damaged(let what): "it is damaged: \(what)"
        case .tooLarge(let byteCount): "it has \(byteCount) bytes, more than any hive of a working system"
        }
    }

    /// Runs a parser and converts its failure to damage.
    static func parsing<Value>(_ body: () throws(ParsingError) -> Value) throws(WindowsFileError) -> Value {
        do { return try body() } catch { throw .damaged(error.description) }
    }
}
