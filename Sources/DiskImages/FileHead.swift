// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// The facts from which a format is detected: the first bytes, the name and the length of a file.
package struct FileHead {
    package let path: FilePath
    /// The open file; `nil` for a pipe or a device.
    package let file: FileBytes?
    /// The first 512 bytes, or fewer.
    package let bytes: [UInt8]
    /// The parts of the file name between its dots, in lower case; the first part is not a suffix.
    package let suffixes: [String]

    /// - Throws: `ImageError.system` if the file cannot be read.
    package init(_ path: FilePath) throws(ImageError) {
        self.path = path
        suffixes = (path.lastComponent?.string ?? "").lowercased().split(separator: ".").map(String.init)
        let status: Stat
        do { status = try Stat(path) } catch { throw .system(SystemCallError("open", path.string, error)) }
        guard status.type == .regular else {
            (file, bytes) = (nil, [])
            return
        }
        let file = try FileBytes(path)
        self.file = file
        bytes = try file.bytes(at: 0, count: Int(min(file.byteCount, 512)))
    }

    /// The first four bytes as a little-endian number; 0 for a shorter file.
    package var magic: UInt32 { (try? bytes.littleEndian(UInt32.self, at: 0)) ?? 0 }

    /// Whether `text` is at `offset`.
    package func holds(_ text: String, at offset: Int) -> Bool {
        bytes.dropFirst(offset).starts(with: Array(text.utf8))
    }
}

/// The result of detecting one format.
package enum Recognition: Equatable, Sendable {
    case no
    /// The contents show the format.
    case byContent
    /// Only the name shows the format: counts if no format matches the contents.
    case byName
    /// The name shows the format, but the contents contradict it; the reason is half a sentence.
    case contradiction(String)
}
