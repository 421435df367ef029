// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Why a filesystem's own structures could not be used.
package enum FilesystemError: Error, Sendable, CustomStringConvertible {
    /// The bytes could not be read.
    case io(BlockIOError)
    /// The bytes contradict each other or the format; the text is a sentence part that names the problem.
    case damaged(String)
    /// The volume has other contents.
    case notThisFormat(String)
    /// No such file or folder.
    case notFound(path: String)
    /// The path names a folder instead of a file, or vice versa.
    case wrongKind(path: String, isFolder: Bool)
    /// The file is larger than the caller allowed, in bytes.
    case tooLarge(path: String, byteCount: UInt64, limit: Int)
    /// The file's bytes cannot be changed in place, because of the way in which it is stored.
    case unchangeable(path: String, reason: String)

    /// One sentence for messages.
    package var description: String {
        switch self {
        case .io(let error): error.description
        case .damaged(let what): "the filesystem is damaged: \(what)"
        case .notThisFormat(let name): "this is not a \(name) filesystem"
        case .notFound(let path): "there is no \(path)"
        case .wrongKind(let path, let isFolder):
            "\(path) is \(isFolder ? "a folder, not a file" : "a file, not a folder")"
        case .tooLarge(let path, let byteCount, let limit):
            "\(path) has \(byteCount) bytes, more than the \(limit) that were expected at most"
        case .unchangeable(let path, let reason): "\(path) cannot be changed in place: it is \(reason)"
        }
    }

    /// Why a volume with this error is taken whole, as a sentence part; a failed read is an error instead.
    func reasonForWhole() throws(BlockIOError) -> String {
        switch self {
        case .io(let error): throw error
        case .damaged(let what): what
        default: description
        }
    }

    /// Runs a read and converts its failure to a filesystem error.
    static func reading<Value>(
        _ body: () throws(BlockIOError) -> Value
    ) throws(FilesystemError) -> Value {
        do { return try body() } catch { throw .io(error) }
    }

    /// Runs a pure parser and converts its failure to damage.
    static func parsing<Value>(_ body: () throws(ParsingError) -> Value) throws(FilesystemError) -> Value {
        do { return try body() } catch { throw .damaged(error.description) }
    }
}
