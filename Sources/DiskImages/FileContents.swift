// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// The detected format of a file given as an image.
///
/// A damaged Reforge image must never be detected as a raw image: its bytes would be restored as those of a disk.
package enum FileContents: Sendable {
    /// A capture, read front to back.
    case recording(RecordingFormat)
    /// A disk.
    case disk(DiskFormat)
    /// Images of the parts of disks, made by another tool: a folder, or a single partclone image.
    case foreign(FolderFormat)
    /// None of these; `why` is half a sentence.
    case unknown(why: String)

    /// Detects the format: first by the contents, then by the name.
    /// - Throws: `ImageError.system` if the file cannot be read.
    package static func detect(_ path: FilePath) throws(ImageError) -> FileContents {
        if (try? Files.status(path))?.isFolder ?? false { return try detectFolder(path) }
        let head = try FileHead(path)
        for row in RecordingFormat.table.rows where try row.recognize(head) == .byContent { return .recording(row) }
        if head.file != nil, try PartcloneFile.recognize(path, head.bytes) { return .foreign(PartcloneFile.format) }
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
                why: "its contents match no image format, and a raw image must be named .img, .raw, .dd or .iso")
    }

    private static func detectFolder(_ path: FilePath) throws(ImageError) -> FileContents {
        for row in FolderFormat.table.rows where try row.recognize(path) { return .foreign(row) }
        let names = FolderFormat.table.rows.map(\.name)
        return .unknown(
            why: "it is a folder" + (names.isEmpty ? "" : " without the files of \(names.joined(separator: " or "))"))
    }
}
