// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// A path on a volume that names a snapshot of a repository: `/folder@latest`, `/folder@HOST/DISK/latest`, or the
/// repository itself: `/folder@`.
enum SnapshotPath {
    /// The file that identifies a folder as a repository.
    static let configurationFile = "repository.json"
    /// The folder that every repository has.
    static let snapshotsFolder = "snapshots"
}

extension OpenedVolume {
    /// The argument for commands that names an image: its path, that of its first part if it is split (`NAME.000`), or
    /// a repository with a snapshot.
    func resolveImage(_ path: String) throws(JobFailure) -> String {
        do { return try resolve(path).string } catch {
            if let first = try? resolve(path + ".000") { return first.string }
            guard let snapshot = try resolveSnapshot(path) else { throw error }
            return snapshot
        }
    }

    /// `FOLDER@SELECTOR` with the folder's real path; `nil` if the path does not have that form, or there is no such
    /// folder.
    func resolveSnapshot(_ path: String) throws(JobFailure) -> String? {
        for (folder, selector) in ImageAddress.splits(path) {
            guard let real = try? resolve(folder),
                Files.exists(real.appending(SnapshotPath.configurationFile))
            else { continue }
            return "\(real)@\(selector)"
        }
        return nil
    }
}
