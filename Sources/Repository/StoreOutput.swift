// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import SystemPackage

/// A file of a repository while it is written: under a temporary name in `tmp/` until it is whole and on the medium.
final class StoreOutput {
    let finalPath: FilePath
    private let temporaryPath: FilePath
    private var file: OwnedDescriptor?
    private let pending: PendingCalls
    private(set) var byteCount: UInt64 = 0
    /// The first write that failed: what is there then is not what was to be written.
    private var failure: ImageError?

    init(_ layout: RepositoryLayout, _ finalPath: FilePath) throws(ImageError) {
        self.finalPath = finalPath
        // Its own random name: two threads may write the same snapshot.
        temporaryPath = layout.temporary.appending("\(StoreName.random()).\(WriterToken.own)")
        do {
            let opened = try OwnedDescriptor.open(
                temporaryPath, .writeOnly, options: [.create, .exclusiveCreate, .noFollow],
                permissions: [.ownerReadWrite, .groupRead])
            pending = PendingCalls(temporaryPath.string, on: opened.raw)
            file = consume opened
        } catch { throw .system(error) }
    }

    func write(_ bytes: [UInt8]) throws(ImageError) {
        let outcome = unsafe bytes.withUnsafeBytes { buffer in
            Result { () throws(ImageError) in unsafe try write(buffer) }
        }
        try outcome.get()
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(ImageError) {
        if let failure { throw failure }
        guard let raw = file?.raw else { return }
        do { _ = try pending.during(.write) { unsafe try raw.writeAll(bytes) } } catch {
            let reason = ImageError.system(
                SystemCallError("write", temporaryPath.string, error as? Errno ?? .ioError))
            failure = reason
            throw reason
        }
        byteCount += UInt64(bytes.count)
    }

    /// Makes the file durable and gives it its name: fsync, rename, fsync of the folder.
    func commit() throws(ImageError) {
        if let failure {
            discard()
            throw failure
        }
        do {
            try moveToPlace()
            try Files.syncFolder(of: finalPath)
        } catch { throw .system(error) }
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

    /// Leaves nothing of it.
    func discard() {
        guard file.take() != nil else { return }
        try? Files.remove(temporaryPath)
    }

    deinit { discard() }
}
