// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import SystemPackage

/// The format of a file that was named as an image.
///
/// A damaged Reforge image must never pass for a raw image: it would be restored as if its bytes were a disk's.
package enum FileContents: Sendable {
    /// A capture, read front to back.
    case recording(RecordingFormat)
    /// A disk.
    case disk(DiskFormat)
    /// Neither: a sentence part that says why.
    case unknown(why: String)

    /// Asks the rows of both tables: first who recognizes the contents, then who recognizes the name.
    /// - Throws: `ImageError.system` where the file cannot be read.
    package static func detect(_ path: FilePath) throws(ImageError) -> FileContents {
        let head = try FileHead(path)
        for row in RecordingFormat.table.rows where try row.recognize(head) == .byContent { return .recording(row) }
        var named: FileContents?
        for row in DiskFormat.table.rows {
            switch try row.recognize(head) {
            case .no: continue
            case .byContent: return .disk(row)
            case .byName: named = named ?? .disk(row)
            case .contradiction(let why): named = named ?? .unknown(why: why)
            }
        }
        return named
            ?? .unknown(
                why: "it starts like none, and a raw image is taken for one only by its name: .img, .raw or .iso")
    }
}
