// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A repository in a folder: an object is a file. A file is written in `tmp/` until it is complete and durable.
package final class LocalStore: PrunableStore {
    /// The paths of its files.
    package let layout: LocalLayout
    /// A folder has all traits.
    package let traits = StoreTraits()
    private let cancellation: Cancellation

    /// The store in a folder, which need not be there.
    /// - Parameter cancellation: ends the wait for a lease.
    package init(_ root: FilePath, cancellation: Cancellation) {
        layout = LocalLayout(root)
        self.cancellation = cancellation
    }

    /// Whether a folder is a repository, of whatever version.
    package static func isRepository(_ root: FilePath) -> Bool {
        Files.exists(LocalLayout(root).path(ObjectID(.configuration)))
    }

    package var name: String { layout.root.string }
    package func name(of id: ObjectID) -> String { layout.path(id).string }
    package func name(ofAll kind: ObjectKind) -> String { layout.folder(kind).string }
    package var isThere: Bool { Files.exists(layout.root) }

    // MARK: Reading

    package func list(_ kind: ObjectKind) throws(SystemCallError) -> [String] {
        switch kind {
        case .configuration, .forgetting:
            return try contains(ObjectID(kind)) ? [""] : []
        case .pack:
            var result: [String] = []
            for group in try Files.allNames(in: layout.folder(.pack)) where group.utf8.count == 2 {
                result += try Files.allNames(in: layout.folder(.pack).appending(group)).filter { $0.hasPrefix(group) }
            }
            return result
        default:
            return try Files.allNames(in: layout.folder(kind)).compactMap { LocalLayout.name(kind, ofFile: $0) }
        }
    }

    package func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus? {
        guard let status = try Files.status(layout.path(id)), status.isFile else { return nil }
        return ObjectStatus(byteCount: status.byteCount, modified: status.modified)
    }

    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader { try LocalReader(layout.path(id)) }

    // MARK: Writing

    package func prepare() throws(SystemCallError) {
        if Files.exists(layout.root) {
            guard try Files.allNames(in: layout.root).isEmpty else {
                throw SystemCallError("create a repository in", name, .directoryNotEmpty)
            }
        } else {
            try Files.makeFolders(layout.root)
            try Files.syncFolder(of: layout.root)
        }
        for name in LocalLayout.folderNames { try Files.makeFolders(layout.root.appending(name)) }
        try Files.syncFolder(of: layout.path(ObjectID(.configuration)))
    }

    package func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter {
        makeLost(layout.temporary)
        return try LocalWriter(layout.path(id), temporary: temporaryPath(), permissions: Self.permissions(id.kind))
    }

    package func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError) {
        let temporary = id.kind == .lock ? LocalLayout.newLock(id, layout) : temporaryPath()
        do {
            try put(bytes, as: layout.path(id), by: temporary, manner, Self.permissions(id.kind))
        } catch {
            let folders = [layout.path(id).removingLastComponent(), temporary.removingLastComponent()]
            guard error.errno == .noSuchFileOrDirectory else { throw error }
            // Another writer may create them at the same time.
            for folder in folders { makeLost(folder) }
            guard folders.allSatisfy({ Files.exists($0) }) else { throw error }
            try put(bytes, as: layout.path(id), by: temporary, manner, Self.permissions(id.kind))
        }
    }

    /// Creates a missing folder of the repository, as copies omit empty folders. Never if the repository itself is
    /// missing: its disk may be unmounted, and the path may then be on another disk.
    private func makeLost(_ folder: FilePath) {
        let isOurs = folder == layout.folder(.lock) ? isThere : Self.isRepository(layout.root)
        if isOurs, !Files.exists(folder) { try? Files.makeFolders(folder) }
    }

    private func put(
        _ bytes: [UInt8], as path: FilePath, by temporary: FilePath, _ manner: PutManner, _ permissions: FilePermissions
    ) throws(SystemCallError) {
        let file = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: permissions)
        do throws(SystemCallError) {
            do { _ = try file.raw.writeAll(bytes) } catch {
                let reason = error as? Errno ?? .ioError
                guard [.noSpace, .diskQuotaExceeded].contains(reason), manner.contains(.mayBeEmpty) else {
                    throw SystemCallError("write", temporary.string, reason)
                }
                try Files.resize(file.raw, temporary.string, to: 0)
            }
            if manner.contains(.durable) { try Files.sync(file.raw, temporary.string) }
            if manner.contains(.isNew) {
                try Files.renameNew(temporary, to: path)
            } else {
                try Files.rename(temporary, to: path)
            }
        } catch {
            try? Files.remove(temporary)
            throw error
        }
        if manner.contains(.durable) { try Files.syncFolder(of: path) }
    }

    /// Rewrites the first byte of the file. An explicitly set time would come from this machine's clock if the folder
    /// is mounted by SMB or SSH.
    package func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64 {
        let path = layout.path(id)
        let file = try OwnedDescriptor.open(path, .writeOnly, options: .noFollow)
        // An empty object was written on a full disk.
        let isEmpty = (try? Files.status(path))??.byteCount == 0
        let first = isEmpty ? nil : bytes.first
        let isWritten = first.map { (try? file.raw.writeAll(toAbsoluteOffset: 0, [$0])) != nil } ?? false
        // On a full disk that cannot write a byte in place.
        if !isWritten { try Files.touch(file.raw, path.string) }
        guard let status = try Files.status(path) else {
            throw SystemCallError("find", path.string, .noSuchFileOrDirectory)
        }
        return status.modified
    }

    package func remove(_ id: ObjectID) throws(SystemCallError) { try Files.remove(layout.path(id)) }

    package func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError) {
        for name in names {
            let path = layout.path(ObjectID(kind, name))
            let file = try OwnedDescriptor.open(path, .readOnly)
            try Files.sync(file.raw, path.string)
        }
        try Files.syncFolder(of: layout.folder(kind).appending("x"))
    }

    package func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)? {
        try FolderLock(layout.folder(kind), cancellation)
    }

    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        do { try Files.rename(layout.path(id), to: layout.path(record)) } catch {
            // A repository from before the ledger; or the object is not there.
            guard error.errno == .noSuchFileOrDirectory else { throw error }
            makeLost(layout.folder(record.kind))
            try Files.rename(layout.path(id), to: layout.path(record))
        }
    }

    package var freeByteCount: UInt64? { Files.freeByteCount(layout.root) }

    private static func permissions(_ kind: ObjectKind) -> FilePermissions {
        switch kind {
        case .pack, .index, .snapshot, .key, .proof: [.ownerReadWrite, .groupRead]
        default: [.ownerReadWrite, .groupRead, .otherRead]
        }
    }

    // MARK: Temporary files

    /// A random name: two threads may write the same object.
    func temporaryPath() -> FilePath {
        let digits = (0..<2).map { _ in
            let text = String(UInt64.random(in: .min ... .max), radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return layout.temporary.appending("\(digits.joined()).\(WriterToken.own)")
    }

    /// The time of a file just written to the store.
    package func now() -> Int64? {
        makeLost(layout.temporary)
        let path = temporaryPath()
        guard
            let file = try? OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: [.ownerReadWrite])
        else { return nil }
        defer { try? Files.remove(path) }
        // On a full disk, use the time of its creation.
        _ = try? file.raw.writeAll([0])
        return ((try? Files.status(path)) ?? nil)?.modified
    }
}

extension FolderLock: StoreLease {}
