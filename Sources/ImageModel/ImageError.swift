// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// The reason an image could not be read or written.
package enum ImageError: Error, Sendable, CustomStringConvertible {
    /// It is not a Reforge image.
    case foreign(name: String, why: String)
    /// It was made by a newer Reforge, or with a feature that this one lacks.
    case unsupported(name: String, what: String)
    /// It is damaged: the problem, its offset in the file, and the affected bytes of the disk, if known.
    case damaged(name: String, what: String, fileOffset: UInt64, disk: ByteRange?, partition: Int?)
    /// It ends too early: its writing was interrupted, or it was cut off since.
    case truncated(name: String, at: UInt64)
    /// It was changed while it was read.
    case changed(name: String)
    /// There is no such snapshot, or no such repository: a sentence.
    case missing(String)
    /// Several objects match where one is needed: a sentence that lists them.
    case ambiguous(String)
    /// A password is wrong or missing: a sentence.
    case key(String)
    /// Another process is working in the repository: a sentence.
    case busy(String)
    /// The operation is refused because data could be lost: a sentence with the next step.
    case refused(String)
    /// The system failed to read or write it.
    case system(SystemCallError)

    /// A sentence for the user.
    package var description: String {
        switch self {
        case .foreign(let name, let why): "\(name) is not a Reforge image: \(why)"
        case .unsupported(let name, let what): "\(name) needs a newer Reforge: \(what)"
        case .damaged(let name, let what, let fileOffset, let disk, let partition):
            "\(name) is damaged at byte \(fileOffset): \(what)"
                + (disk.map { "; this concerns bytes \($0.lowerBound) to \($0.upperBound) of the disk" } ?? "")
                + (partition.map { ", partition \($0)" } ?? (disk == nil ? "" : ", outside every partition"))
        case .truncated(let name, let position):
            "\(name) ends too early, at byte \(position): it was not written to its end, or was cut off since"
        case .changed(let name): "\(name) was changed while it was read"
        case .missing(let what), .ambiguous(let what), .key(let what), .busy(let what), .refused(let what): what
        case .system(let error): error.description
        }
    }
}
