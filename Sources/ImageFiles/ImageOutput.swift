// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The output file of an image: it has no name until it is complete.
package final class ImageOutput {
    private let finalPath: FilePath?
    private var file: UnfinishedFile?
    private let overwrite: Bool

    /// The descriptor to write to.
    package let descriptor: FileDescriptor
    /// The name in messages.
    package let name: String

    /// Standard output.
    package init() {
        finalPath = nil
        overwrite = false
        descriptor = .standardOutput
        name = "standard output"
    }

    /// A file that gets the name `path` when committed.
    package init(_ path: FilePath, overwrite: Bool) throws(SystemCallError) {
        // A dangling link occupies the name too: without this check, linkat would fail only after the image is
        // complete.
        if !overwrite, (try? Stat(path, followTargetSymlink: false)) != nil {
            throw SystemCallError("create", path.string, .fileExists)
        }
        do throws(SystemCallError) {
            let file = try UnfinishedFile(of: path)
            descriptor = file.descriptor
            self.file = file
        } catch { throw SystemCallError("create", path.string, error.errno) }
        finalPath = path
        self.overwrite = overwrite
        name = path.string
    }

    /// Makes the file durable and gives it its name: fsync, link or rename, fsync of the folder.
    package func commit() throws(SystemCallError) {
        guard let finalPath, let file else { return }
        try Files.sync(descriptor, name)
        try file.publish(replacing: overwrite)
        self.file = nil
        try Files.syncFolder(of: finalPath)
    }
}
