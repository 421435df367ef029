// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The file that an image is written to: under a temporary name until it is whole.
public final class ImageOutput {
    private let finalPath: FilePath?
    private let temporaryPath: FilePath?
    private var file: OwnedDescriptor?
    private var isCommitted = false
    private let overwrite: Bool

    /// Where the bytes go.
    public let descriptor: FileDescriptor
    /// How messages call it.
    public let name: String

    /// Standard output.
    public init() {
        finalPath = nil
        temporaryPath = nil
        overwrite = false
        descriptor = .standardOutput
        name = "standard output"
    }

    /// A file that appears under `path` when it is committed.
    public init(_ path: FilePath, overwrite: Bool) throws(SystemCallError) {
        if !overwrite, Files.exists(path) { throw SystemCallError("create", path.string, .fileExists) }
        var temporary = path.removingLastComponent()
        temporary.append(".\(path.lastComponent?.string ?? "image").partial-\(SystemFacts.processID)")
        let file = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .exclusiveCreate, .noFollow],
            permissions: [.ownerReadWrite, .groupRead])
        descriptor = file.raw
        self.file = consume file
        finalPath = path
        temporaryPath = temporary
        self.overwrite = overwrite
        name = path.string
    }

    /// Makes the file durable and gives it its name: fsync, rename, fsync of the folder.
    public func commit() throws(SystemCallError) {
        guard let finalPath, let temporaryPath else { return }
        try Files.sync(descriptor, name)
        if let file = file.take() { try file.close() }
        if overwrite {
            try Files.rename(temporaryPath, to: finalPath)
        } else {
            try Files.renameNew(temporaryPath, to: finalPath)
        }
        isCommitted = true
        try Files.syncFolder(of: finalPath)
    }

    deinit {
        // Nothing is left of an image that was not finished.
        if !isCommitted, let temporaryPath { try? Files.remove(temporaryPath) }
    }
}
