// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A copy of files in a folder of an installed system, for a program of this machine, which would follow the tree's
/// links out of it. Removed with this object.
final class TreeFolderCopy {
    /// The folder of the copies.
    let path: FilePath
    private var names: [String] = []

    private static let largestFile = 4 << 20
    private static let largestSum = 64 << 20

    /// Copies the files with these endings; anything but a file is skipped.
    /// - Parameter name: a description of the files, as the object of a sentence.
    init(
        of folder: String, in tree: borrowing AnchoredFolder, endings: [String], name: String
    ) throws(SystemCallError) {
        path = try Files.makeTemporaryFolder("reforge-copy")
        var sum = 0
        for file in tree.names(in: folder) where endings.contains(where: { file.hasSuffix($0) }) {
            guard let bytes = try? tree.read("\(folder)/\(file)", limit: Self.largestFile) else { continue }
            sum += bytes.count
            guard sum <= Self.largestSum else {
                throw SystemCallError("copy", "\(name) in \(folder)", .fileTooLarge)
            }
            names.append(file)
            try Files.write(bytes, to: path.appending(file))
        }
    }

    deinit {
        for name in names { try? Files.remove(path.appending(name)) }
        try? Files.removeFolder(path)
    }
}
