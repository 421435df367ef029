// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import SystemPackage

/// The file of a lock while its process holds it. Its bytes never change; its modification time, which the store sets, does.
final class LockFile: Sendable {
    static let folder = "locks"
    private let path: FilePath
    private let file: OwnedDescriptor
    /// What it says.
    let record: LockRecord
    /// Its first byte; `nil` where it is empty.
    private let firstByte: UInt8?

    /// Writes it, under a temporary name first, so that nobody reads half of it.
    ///
    /// On a full disk, maintenance makes do with an empty file, or nobody could make room. Others take a lock that they
    /// cannot read for maintenance.
    init(_ operation: RepositoryOperation, at repository: FilePath) throws(SystemCallError) {
        var record = LockRecord(operation)
        let folder = repository.appending(Self.folder)
        path = folder.appending("\(record.uuid).json")
        let temporary = folder.appending(".\(record.uuid).new")
        try Files.makeFolders(folder)
        file = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .exclusiveCreate, .noFollow],
            permissions: [.ownerReadWrite, .groupRead, .otherRead])
        var isInPlace = false
        defer { if !isInPlace { try? Files.remove(temporary) } }
        // By the clock of the store: others compare it with the times of files.
        if let status = try Files.status(temporary) { record.started = SystemFacts.utcText(status.modified) }
        self.record = record
        let bytes: [UInt8]
        do { bytes = try JSONText.encode(record, pretty: true) } catch {
            throw SystemCallError("write", path.string, .invalidArgument)
        }
        var firstByte = bytes.first
        do { _ = try file.raw.writeAll(bytes) } catch {
            let reason = error as? Errno ?? .ioError
            guard reason == .noSpace, record.isMaintenance else {
                throw SystemCallError("write", temporary.string, reason)
            }
            try Files.resize(file.raw, temporary.string, to: 0)
            firstByte = nil
        }
        self.firstByte = firstByte
        try Files.rename(temporary, to: path)
        isInPlace = true
    }

    /// Writes its first byte again, and says which time it has now. A time that was set would be that of this machine's
    /// clock where the folder is mounted by SMB or SSH.
    func touched() throws(SystemCallError) -> Int64 {
        // By the descriptor: a lock that was removed does not come back.
        let isWritten = firstByte.map { (try? file.raw.writeAll(toAbsoluteOffset: 0, [$0])) != nil } ?? false
        // On a full disk that writes no byte in place.
        if !isWritten { try Files.touch(file.raw, path.string) }
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
