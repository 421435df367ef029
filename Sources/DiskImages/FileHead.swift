// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// The facts by which a format recognizes a file: its first bytes, its name and its length.
package struct FileHead {
    package let path: FilePath
    /// The open file; `nil` for a pipe or a device.
    package let file: FileBytes?
    /// Up to 64 bytes from the start.
    package let bytes: [UInt8]
    /// The parts of the name behind its dots, in lower case; the first part is the name itself.
    package let suffixes: [String]

    /// - Throws: `ImageError.system` where the file cannot be read.
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
        bytes = try file.bytes(at: 0, count: Int(min(file.byteCount, 64)))
    }

    /// The first four bytes as a little-endian number; 0 for a shorter file.
    package var magic: UInt32 { (try? bytes.littleEndian(UInt32.self, at: 0)) ?? 0 }

    /// Whether `text` stands `offset` bytes from the start.
    package func holds(_ text: String, at offset: Int) -> Bool {
        bytes.dropFirst(offset).starts(with: Array(text.utf8))
    }
}

/// How a format answers whether a file is its own.
package enum Recognition: Equatable, Sendable {
    case no
    /// The contents show the format.
    case byContent
    /// Only the name says so: counts where no format recognizes the contents.
    case byName
    /// The name names the format and the contents contradict it: a sentence part that says why.
    case contradiction(String)
}
