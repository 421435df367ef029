// SPDX-License-Identifier: GPL-3.0-or-later

/// A path on a volume that names a snapshot of a repository: `/folder@latest`, `/folder@HOST/DISK/latest`, or the
/// repository itself: `/folder@`.
enum SnapshotPath {
    /// The file by which a folder is known for a repository.
    static let configurationFile = "repository.json"
    /// The folder that every repository has.
    static let snapshotsFolder = "snapshots"

    /// The folders and what follows them that a path can mean: at its last `@`, then at those before it, as folders and
    /// hosts may have one in their names.
    static func splits(_ path: String) -> [(folder: String, selector: String)] {
        path.indices.filter { path[$0] == "@" }.reversed().map { mark in
            (String(path[..<mark]), String(path[path.index(after: mark)...]))
        }
    }
}
