// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Synchronization
import SystemPackage

/// A file that is being written and must vanish with its process until it is whole: without a name where the filesystem has such
/// files (O_TMPFILE), else under one that says who writes it, so that the next writer in that folder can remove it.
final class UnfinishedFile {
    let descriptor: FileDescriptor
    private let file: OwnedDescriptor
    /// Its temporary name; `nil` where it has none.
    private var name: FilePath? {
        didSet { UnfinishedFiles.replace(oldValue, by: name) }
    }
    private let finalPath: FilePath

    /// Begins a file that is to have the name `path`.
    init(of path: FilePath, mayBeUnnamed: Bool = true) throws(SystemCallError) {
        finalPath = path
        let folder = Self.folder(of: path)
        if mayBeUnnamed, Files.isOfThisMachine(folder), let unnamed = Files.openUnnamed(in: folder, Self.permissions) {
            descriptor = unnamed.raw
            file = unnamed
        } else {
            var name: FilePath?
            file = try Self.openNamed(for: path, &name)
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

    /// Gives it its name. What is written must be on the medium.
    /// - Parameter replacing: whether a file that has the name already goes; else that is EEXIST.
    func publish(replacing: Bool) throws(SystemCallError) {
        if name == nil, !replacing { return try Files.link(descriptor, as: finalPath) }
        let temporary: FilePath
        if let name {
            temporary = name
        } else {
            // No call puts a file without a name in the place of another.
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

    /// `.NAME.partial-RANDOM.OWNER`. Names of files have 255 bytes at most.
    private static func temporaryPath(for path: FilePath) -> FilePath {
        let name = String(decoding: (path.lastComponent?.string ?? "image").utf8.prefix(120), as: UTF8.self)
        let random = String(UInt64.random(in: .min ... .max), radix: 36)
        return folder(of: path).appending(".\(name)\(mark)\(random).\(WriterToken.own)")
    }

    private static let mark = ".partial-"

    private static func openNamed(
        for path: FilePath, _ made: inout FilePath?
    ) throws(SystemCallError) -> OwnedDescriptor {
        var attempts = 0
        while true {
            attempts += 1
            let name = temporaryPath(for: path)
            let file = try OwnedDescriptor.open(
                name, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: permissions)
            // Another writer may have taken it for a leftover until it was locked.
            let isOurs = try FileLock.take(file.raw, forWriting: true) != .held
            if isOurs, Files.isSame(file.raw, name) {
                made = name
                return file
            }
            guard attempts < 16 else { throw SystemCallError("create", name.string, .resourceBusy) }
        }
    }

    // MARK: leftovers

    /// The age after which a file counts as left behind whose owner cannot be asked: whoever is at work writes more often.
    private static let foreignAgeSeconds: Int64 = 24 * 3600

    /// Removes what writers in a folder left that are no more.
    /// - Parameter now: by the clock that keeps the times of files there.
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
                // Of another boot or another process namespace. A lock holds for all who could write it.
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

/// The temporary names of what this process writes.
package enum UnfinishedFiles {
    private static let names = Mutex<Set<FilePath>>([])

    static func replace(_ old: FilePath?, by new: FilePath?) {
        names.withLock { names in
            if let old { names.remove(old) }
            if let new { names.insert(new) }
        }
    }

    /// Removes them, for a process that gives up. That may block: what stays is removed by the next writer in that folder.
    package static func remove() {
        for name in names.withLock({ $0 }) { try? Files.remove(name) }
    }
}
