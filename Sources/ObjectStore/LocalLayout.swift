// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// The paths of a repository's objects in a folder. RepositoryFormat.md has the tree.
package struct LocalLayout: Sendable {
    /// The folder.
    package let root: FilePath

    /// Names the folder.
    package init(_ root: FilePath) { self.root = root }

    /// The folders of a new repository.
    package static let folderNames = [
        "keys", "packs", "indexes", "snapshots", "proofs", "ledger", "locks", "marks", "tmp",
    ]
    /// The file that makes a folder a repository.
    package static let configurationName = "repository.json"

    /// The folder for objects being written.
    var temporary: FilePath { root.appending("tmp") }

    /// The folder of a kind.
    package func folder(_ kind: ObjectKind) -> FilePath {
        switch kind {
        case .configuration: root
        case .key: root.appending("keys")
        case .pack: root.appending("packs")
        case .index: root.appending("indexes")
        case .snapshot: root.appending("snapshots")
        case .publication, .retirement: root.appending("ledger")
        case .lock: root.appending("locks")
        case .mark, .batch, .forgetting: root.appending("marks")
        case .proof: root.appending("proofs")
        }
    }

    private static func affixes(_ kind: ObjectKind) -> (prefix: String, suffix: String) {
        switch kind {
        case .key, .lock: ("", ".json")
        case .batch: ("batch-", ".json")
        case .retirement: ("", ".forgotten")
        case .configuration, .pack, .index, .snapshot, .publication, .mark, .forgetting, .proof: ("", "")
        }
    }

    /// The file of an object. Packs have a folder for each pair of first digits.
    package func path(_ id: ObjectID) -> FilePath {
        switch id.kind {
        case .configuration: return root.appending(Self.configurationName)
        case .forgetting: return folder(.forgetting).appending("forgotten")
        case .pack: return folder(.pack).appending(String(id.name.prefix(2))).appending(id.name)
        default:
            let (prefix, suffix) = Self.affixes(id.kind)
            return folder(id.kind).appending(prefix + id.name + suffix)
        }
    }

    /// The name of the object of a kind stored as this file; `nil` if it is of another kind, or no object.
    static func name(_ kind: ObjectKind, ofFile file: String) -> String? {
        let (prefix, suffix) = affixes(kind)
        guard file.utf8.count > prefix.utf8.count + suffix.utf8.count, file.hasPrefix(prefix), file.hasSuffix(suffix),
            !file.hasPrefix(".")
        else { return nil }
        let name = String(file.dropFirst(prefix.count).dropLast(suffix.count))
        switch kind {
        // Kinds that share their folder.
        case .publication where name.hasSuffix(".forgotten"): return nil
        case .mark where name == "forgotten" || name.hasPrefix("batch-"): return nil
        default: return name
        }
    }
}
