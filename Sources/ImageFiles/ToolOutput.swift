// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// An output file that another program writes: it has a temporary name in its folder until it is complete, and is
/// removed with this object unless it was committed.
package final class ToolOutput {
    private var file: UnfinishedFile?
    private let finalPath: FilePath
    private let overwrite: Bool

    /// The absolute path to write to. The file exists, and is empty.
    package let path: FilePath
    /// The file under that path.
    package let descriptor: FileDescriptor

    /// Whether the file has its final name.
    package var isPublished: Bool { file == nil }

    /// Begins a file that gets the name `path` when committed.
    package init(_ path: FilePath, overwrite: Bool) throws(SystemCallError) {
        let parent = path.removingLastComponent()
        guard let folder = Files.realFolder(parent), let last = path.lastComponent else {
            throw SystemCallError("create", path.string, .noSuchFileOrDirectory)
        }
        finalPath = folder.appending(last)
        self.overwrite = overwrite
        do throws(SystemCallError) {
            let file = try UnfinishedFile(of: finalPath, mayBeUnnamed: false, isLocked: false)
            guard let name = file.name else { throw SystemCallError("create", path.string, .noSuchFileOrDirectory) }
            (self.file, self.path, descriptor) = (file, name, file.descriptor)
        } catch { throw SystemCallError("create", path.string, error.errno) }
    }

    /// Makes the file durable and gives it its name: fsync, rename, fsync of the folder.
    /// - Parameter patience: how long a lock of another program is waited for, in seconds.
    /// - Throws: also if the file was replaced, or if another program still has it locked.
    package func commit(patience: Double = 10) throws(SystemCallError) {
        guard let file else { return }
        guard Files.isSame(descriptor, path) else {
            throw SystemCallError("publish", path.string, .noSuchFileOrDirectory)
        }
        // A child that another thread has just forked holds every lock of this process until it is another program.
        let deadline = SystemFacts.monotonicSeconds() + patience
        while try FileLock.take(descriptor, forWriting: true) == .held {
            guard SystemFacts.monotonicSeconds() < deadline else {
                throw SystemCallError("publish", path.string, .resourceBusy)
            }
            SystemFacts.sleep(seconds: 0.02)
        }
        try Files.sync(descriptor, path.string)
        try file.publish(replacing: overwrite)
        self.file = nil
        try Files.syncFolder(of: finalPath)
    }
}
