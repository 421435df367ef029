// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Why an image could not be read or written.
package enum ImageError: Error, Sendable, CustomStringConvertible {
    /// It is no image of ours.
    case foreign(name: String, why: String)
    /// It was made by a newer Reforge, or with a feature that this one lacks.
    case unsupported(name: String, what: String)
    /// It is damaged: what is wrong, where in the file, and which bytes of the disk that concerns, where known.
    case damaged(name: String, what: String, fileOffset: UInt64, disk: ByteRange?, partition: Int?)
    /// It ends too early: interrupted while it was written, or cut off since.
    case truncated(name: String, at: UInt64)
    /// It was changed while it was read.
    case changed(name: String)
    /// There is no such snapshot, or no such repository: a sentence.
    case missing(String)
    /// Several things match where one is needed: a sentence with all of them.
    case ambiguous(String)
    /// A password is wrong or missing: a sentence.
    case key(String)
    /// Somebody else is at work in the repository: a sentence.
    case busy(String)
    /// It is not done, as data could be lost: a sentence with what to do.
    case refused(String)
    /// The system failed to read or write it.
    case system(SystemCallError)

    /// One sentence for a person.
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
