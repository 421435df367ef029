// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import SystemPackage

/// The files of a folder as one sequence of bytes, so that a repository can be damaged like a disk: for each file the
/// length of its path (2 bytes), the path, its length (4), its bytes.
struct RepositoryArchive {
    private(set) var files: [(path: String, bytes: [UInt8])] = []

    /// From files.
    init(files: [(path: String, bytes: [UInt8])]) { self.files = files }

    /// Appends a file.
    mutating func add(_ path: String, _ bytes: [UInt8]) { files.append((path, bytes)) }

    /// All files below a folder, sorted by path.
    init(packing folder: FilePath) throws {
        func visit(_ folder: FilePath, _ prefix: String) throws {
            for name in Files.names(in: folder).sorted() {
                let path = folder.appending(name)
                if try Stat(path).type == .directory {
                    try visit(path, "\(prefix)\(name)/")
                } else {
                    files.append(("\(prefix)\(name)", try Files.read(path)))
                }
            }
        }
        try visit(folder, "")
    }

    /// `nil` where the bytes are no archive, or would leave their folder.
    init?(_ bytes: [UInt8]) {
        var place = 0
        while place < bytes.count {
            guard let nameCount = try? bytes.littleEndian(UInt16.self, at: place),
                let name = try? bytes.bytes(at: place + 2, count: Int(nameCount)),
                let count = try? bytes.littleEndian(UInt32.self, at: place + 2 + name.count),
                let content = try? bytes.bytes(at: place + 6 + name.count, count: Int(count))
            else { return nil }
            let path = String(decoding: name, as: UTF8.self)
            guard !path.hasPrefix("/"), !path.split(separator: "/").contains("..") else { return nil }
            files.append((path, content))
            place += 6 + name.count + content.count
        }
    }

    var bytes: [UInt8] {
        var result: [UInt8] = []
        for file in files {
            result.appendLittleEndian(UInt16(file.path.utf8.count))
            result += Array(file.path.utf8)
            result.appendLittleEndian(UInt32(file.bytes.count))
            result += file.bytes
        }
        return result
    }

    /// The place of each file's contents in `bytes`.
    var places: [(path: String, range: Range<Int>)] {
        var place = 0
        return files.map { file in
            let start = place + 6 + file.path.utf8.count
            place = start + file.bytes.count
            return (file.path, start..<place)
        }
    }

    /// Creates the folders of a repository and the files without waiting for the medium: called thousands of times.
    func unpack(to folder: FilePath) throws {
        for name in ["keys", "packs", "indexes", "snapshots", "locks", "marks", "tmp"] {
            try Files.makeFolders(folder.appending(name))
        }
        for file in files {
            var path = folder
            for part in file.path.split(separator: "/") { path.append(String(part)) }
            try Files.makeFolders(path.removingLastComponent())
            let descriptor = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
            try descriptor.closeAfter { _ = try descriptor.writeAll(file.bytes) }
        }
    }

    /// Removes a folder with all that is in it.
    static func remove(_ folder: FilePath) {
        for name in Files.names(in: folder) {
            let path = folder.appending(name)
            if (try? Stat(path))?.type == .directory { remove(path) } else { try? Files.remove(path) }
        }
        try? Files.removeFolder(folder)
    }
}
