// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A file of a local store being written: it has a temporary name until it is complete and durable.
final class LocalWriter: ObjectWriter {
    private(set) var byteCount: UInt64 = 0
    private let finalPath: FilePath
    private let temporaryPath: FilePath
    private var file: OwnedDescriptor?
    private let pending: PendingCalls
    /// The first failed write: the file does not have the expected contents then.
    private var failure: SystemCallError?

    init(_ finalPath: FilePath, temporary: FilePath, permissions: FilePermissions) throws(SystemCallError) {
        self.finalPath = finalPath
        temporaryPath = temporary
        let opened = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: permissions)
        pending = PendingCalls(temporary.string, on: opened.raw)
        file = consume opened
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        if let failure { throw failure }
        guard let raw = file?.raw else { return }
        do { _ = try pending.during(.write) { unsafe try raw.writeAll(bytes) } } catch {
            let reason = SystemCallError("write", temporaryPath.string, error as? Errno ?? .ioError)
            failure = reason
            throw reason
        }
        byteCount += UInt64(bytes.count)
    }

    /// fsync, rename, fsync of the folder.
    func commit() throws(SystemCallError) {
        if let failure {
            discard()
            throw failure
        }
        try moveToPlace()
        try Files.syncFolder(of: finalPath)
    }

    private func moveToPlace() throws(SystemCallError) {
        guard let file = file.take() else { return }
        do throws(SystemCallError) {
            try Files.sync(file.raw, temporaryPath.string)
            try file.close()
            let folder = finalPath.removingLastComponent()
            if !Files.exists(folder) {
                try Files.makeFolders(folder)
                try Files.syncFolder(of: folder)
            }
            try Files.rename(temporaryPath, to: finalPath)
        } catch {
            try? Files.remove(temporaryPath)
            throw error
        }
    }

    func discard() {
        guard file.take() != nil else { return }
        try? Files.remove(temporaryPath)
    }

    deinit { discard() }
}
