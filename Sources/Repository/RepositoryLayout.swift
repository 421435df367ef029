// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import SystemPackage

/// Where things are in a repository's folder.
package struct RepositoryLayout: Sendable {
    let root: FilePath

    package init(_ root: FilePath) { self.root = root }

    package var configuration: FilePath { root.appending("repository.json") }
    var keys: FilePath { root.appending("keys") }
    var packs: FilePath { root.appending("packs") }
    var indexes: FilePath { root.appending("indexes") }
    var snapshots: FilePath { root.appending("snapshots") }
    var locks: FilePath { root.appending("locks") }
    var marks: FilePath { root.appending("marks") }
    var ledger: FilePath { root.appending("ledger") }
    var temporary: FilePath { root.appending("tmp") }

    package static let folderNames = ["keys", "packs", "indexes", "snapshots", "ledger", "locks", "marks", "tmp"]

    func pack(_ name: StoreName) -> FilePath {
        let text = name.description
        return packs.appending(String(text.prefix(2))).appending(text)
    }
    func index(_ name: StoreName) -> FilePath { indexes.appending(name.description) }
    func snapshot(_ id: ContentHash) -> FilePath { snapshots.appending(id.description) }

    /// The names in a folder of the repository. One that cannot be read is an error: it must never pass for empty.
    static func names(in folder: FilePath) throws(ImageError) -> [String] {
        do { return try Files.allNames(in: folder) } catch { throw .system(error) }
    }

    func indexNames() throws(ImageError) -> [StoreName] {
        try Self.names(in: indexes).compactMap { StoreName($0) }
    }

    /// All packs that are there, sorted.
    func packNames() throws(ImageError) -> [StoreName] {
        var result: [StoreName] = []
        for group in try Self.names(in: packs) where group.utf8.count == 2 {
            for text in try Self.names(in: packs.appending(group)) where text.hasPrefix(group) {
                if let name = StoreName(text) { result.append(name) }
            }
        }
        return result.sorted()
    }
}

extension ImageError {
    /// Whether a file that was expected is not there.
    var isMissingFile: Bool {
        if case .system(let error) = self { return error.errno == .noSuchFileOrDirectory }
        return false
    }

    /// Damage of a file of a repository, as such: nothing is known of the disks that it concerns.
    static func damagedFile(_ path: FilePath, _ what: String, at offset: UInt64 = 0) -> ImageError {
        .damaged(name: path.string, what: what, fileOffset: offset, disk: nil, partition: nil)
    }

    /// What any error of the modules below is here: about the file at `path`.
    static func about(_ path: FilePath, _ error: any Error, at offset: UInt64 = 0) -> ImageError {
        switch error {
        case let error as ImageError: error
        case let error as SystemCallError: .system(error)
        default: .damagedFile(path, "\(error)", at: offset)
        }
    }
}
