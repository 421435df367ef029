// SPDX-License-Identifier: GPL-3.0-or-later

/// The reason a record or a report is not used.
package enum DoctorError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It is longer than any valid one.
    case tooLong(byteCount: Int, limit: Int)
    /// It is no JSON of this kind; the reason, as a sentence part.
    case malformed(String)
    /// It is of a newer version.
    case version(Int)

    package var description: String {
        switch self {
        case .tooLong(let count, let limit): "it has \(count) bytes, more than the \(limit) of the longest"
        case .malformed(let why): why
        case .version(let number):
            "it is of version \(number), and this program reads up to \(MachineRecord.version): use a newer Reforge"
        }
    }
}
