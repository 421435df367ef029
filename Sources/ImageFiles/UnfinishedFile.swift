// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Synchronization
import SystemPackage

/// A file being written that must vanish with its process until it is complete: without a name if the filesystem
/// supports that (O_TMPFILE), else under a name that identifies its writer, so that the next writer in that folder can
/// remove it.
final class UnfinishedFile {
    let descriptor: FileDescriptor
    private let file: OwnedDescriptor
    /// Its temporary name; `nil` if it has none.
    private(set) var name: FilePath? {
        didSet { UnfinishedFiles.replace(oldValue, by: name) }
    }
    private let finalPath: FilePath

    /// Begins a file to be published as `path`.
    /// - Parameter isLocked: whether this process locks a named file; otherwise the program that writes it does.
    init(of path: FilePath, mayBeUnnamed: Bool = true, isLocked: Bool = true) throws(SystemCallError) {
        finalPath = path
        let folder = Self.folder(of: path)
        if mayBeUnnamed, Files.isOfThisMachine(folder), let unnamed = Files.openUnnamed(in: folder, Self.permissions) {
            descriptor = unnamed.raw
            file = unnamed
        } else {
            var name: FilePath?
            file = try Self.openNamed(for: path, isLocked: isLocked, &name)
            descriptor = file.raw
            self.name = name
            UnfinishedFiles.replace(nil, by: name)
        }
        Self.removeLeftovers(in: folder, now: name.flatMap { try? Files.status($0) }?.modified)
    }

    private static let permissions: FilePermissions = [.ownerReadWrite, .groupRead]

    private static func folder(of path: FilePath) -> FilePath {
        let folder = path.removingLastComponent()
        return folder.isEmpty ? "." : folder
    }

    /// Publishes the file under its name. Its contents must already be durable.
    /// - Parameter replacing: whether an existing file of that name is replaced; otherwise it causes EEXIST.
    func publish(replacing: Bool) throws(SystemCallError) {
        if name == nil, !replacing { return try Files.link(descriptor, as: finalPath) }
        let temporary: FilePath
        if let name {
            temporary = name
        } else {
            // No system call replaces a file by an unnamed one.
            temporary = Self.temporaryPath(for: finalPath)
            try Files.link(descriptor, as: temporary)
            name = temporary
        }
        if replacing {
            try Files.rename(temporary, to: finalPath)
        } else {
            try Files.renameNew(temporary, to: finalPath)
        }
        name = nil
    }

    deinit {
        guard let name else { return }
        try? Files.remove(name)
        UnfinishedFiles.replace(name, by: nil)
    }

    // MARK: names

    /// `.NAME.partial-RANDOM.OWNER`. File names have at most 255 bytes.
    private static func temporaryPath(for path: FilePath) -> FilePath {
        let name = String(decoding: (path.lastComponent?.string ?? "image").utf8.prefix(120), as: UTF8.self)
        let random = String(UInt64.random(in: .min ... .max), radix: 36)
        return folder(of: path).appending(".\(name)\(mark)\(random).\(WriterToken.own)")
    }

    private static let mark = ".partial-"

    private static func openNamed(
        for path: FilePath, isLocked: Bool, _ made: inout FilePath?
    ) throws(SystemCallError) -> OwnedDescriptor {
        var attempts = 0
        while true {
            attempts += 1
            let name = temporaryPath(for: path)
            let file = try OwnedDescriptor.open(
                name, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: permissions)
            // Another writer may have removed it as a leftover before it was locked.
            let isOurs = isLocked ? try FileLock.take(file.raw, forWriting: true) != .held : true
            if isOurs, Files.isSame(file.raw, name) {
                made = name
                return file
            }
            guard attempts < 16 else { throw SystemCallError("create", name.string, .resourceBusy) }
        }
    }

    // MARK: leftovers

    /// The age after which a file counts as left behind if its owner cannot be checked: a running writer writes more
    /// often.
    private static let foreignAgeSeconds: Int64 = 24 * 3600

    /// Removes files left in a folder by writers that have ended.
    /// - Parameter now: the time by the clock that sets the file times there.
    private static func removeLeftovers(in folder: FilePath, now: Int64?) {
        for text in Files.names(in: folder) where text.hasPrefix(".") && text.contains(mark) {
            let path = folder.appending(text)
            guard let owner = WriterToken(endOf: text), let status = try? Stat(path, followTargetSymlink: false),
                status.type == .regular, status.userID.rawValue == SystemFacts.userID
            else { continue }
            switch owner.isAlive {
            case false?: try? Files.remove(path)
            case true?: continue
            case nil where Files.isOfThisMachine(folder):
                // Its owner belongs to another boot or process namespace. A lock is effective for all processes that
                // could write the file.
                guard let file = try? OwnedDescriptor.open(path, .writeOnly, options: .noFollow),
                    (try? FileLock.take(file.raw, forWriting: true)) == .granted
                else { continue }
                try? Files.remove(path)
            case nil:
                guard let now, let then = try? Files.status(path)?.modified else { continue }
                let (age, isAbsurd) = now.subtractingReportingOverflow(then)
                guard !isAbsurd, age > foreignAgeSeconds else { continue }
                try? Files.remove(path)
            }
        }
    }
}

/// The temporary files of this process.
package enum UnfinishedFiles {
    private static let names = Mutex<Set<FilePath>>([])

    static func replace(_ old: FilePath?, by new: FilePath?) {
        names.withLock { names in
            if let old { names.remove(old) }
            if let new { names.insert(new) }
        }
    }

    /// Removes the temporary files when the process gives up. This may block; remaining files are removed by the next
    /// writer in that folder.
    package static func remove() {
        for name in names.withLock({ $0 }) { try? Files.remove(name) }
    }
}
