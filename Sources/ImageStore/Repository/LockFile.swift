// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The file of a lock while its process holds it. Its bytes never change; its modification time does.
final class LockFile: Sendable {
    static let folder = "locks"
    private let path: FilePath
    private let file: OwnedDescriptor

    /// Writes it, under a temporary name first, so that nobody reads half of it.
    ///
    /// On a full disk, maintenance makes do with an empty file, or nobody could make room. Others take a lock that they
    /// cannot read for maintenance.
    init(_ record: LockRecord, at repository: FilePath) throws(SystemCallError) {
        let folder = repository.appending(Self.folder)
        path = folder.appending("\(record.uuid).json")
        let temporary = folder.appending(".\(record.uuid).new")
        let bytes: [UInt8]
        do { bytes = try JSONText.encode(record, pretty: true) } catch {
            throw SystemCallError("write", path.string, .invalidArgument)
        }
        try Files.makeFolders(folder)
        file = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .exclusiveCreate, .noFollow],
            permissions: [.ownerReadWrite, .groupRead, .otherRead])
        var isInPlace = false
        defer { if !isInPlace { try? Files.remove(temporary) } }
        do { _ = try file.raw.writeAll(bytes) } catch {
            let reason = error as? Errno ?? .ioError
            guard reason == .noSpace, record.isMaintenance else {
                throw SystemCallError("write", temporary.string, reason)
            }
            try Files.resize(file.raw, temporary.string, to: 0)
        }
        try Files.rename(temporary, to: path)
        isInPlace = true
    }

    /// Sets its time to now and says which time that is.
    func touched() throws(SystemCallError) -> Int64 {
        // By the descriptor: a lock that was removed does not come back.
        try Files.touch(file.raw, path.string)
        guard let status = try Files.status(path) else {
            throw SystemCallError("find the lock", path.string, .noSuchFileOrDirectory)
        }
        return status.modified
    }

    /// Whether nobody has removed it.
    var exists: Bool { Files.exists(path) }

    /// Removes it.
    func remove() { try? Files.remove(path) }
}
