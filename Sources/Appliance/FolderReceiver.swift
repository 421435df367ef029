// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Writes the files of a walk into a folder of this machine.
///
/// Every call takes one name below a folder that is held open, and follows no link: neither the image nor its links
/// reach anything outside. A file has a temporary name until it is whole.
package final class FolderReceiver: FileReceiver {
    package struct Options: Sendable {
        package var overwrites = false
        /// Whether owners can be set.
        package var setsOwners = SystemFacts.isRoot
        /// Whether a file here must not be replaced, by its device and inode: the image that is read may be one.
        package var mustStay: @Sendable (_ device: UInt64, _ inode: UInt64) -> Bool = { _, _ in false }

        package init() {}
    }

    /// A folder on the way from the top to the current entry.
    private struct Level {
        /// `nil` if it could not be made: what is in it is left out.
        var folder: FolderWriter?
        var name: [UInt8]
        /// What is set once everything in it is written; `nil` for a folder that was there before.
        var entry: AgentEntry?
    }

    private struct OpenFile {
        let entry: AgentEntry
        let temporary: [UInt8]
        let name: [UInt8]
        let descriptor: FileDescriptor
    }

    package private(set) var counts = DeliveryCounts()
    private let top: FolderWriter
    let options: Options
    private let notices: ReceiverNotices
    private var levels: [Level] = []
    private var open: OpenFile?
    /// Where the first name of each file with several names is: components below the top.
    private var links: [UInt64: [[UInt8]]] = [:]
    private var warned: Set<String> = []
    /// The first folder on each filesystem that was there, by its device: one can be mounted below the top.
    private var filesystems: [UInt64: FolderWriter] = [:]
    /// In temporary names: a command that was killed in a container can have left files with this process's id.
    let token = String(UInt64.random(in: .min ... .max), radix: 36)
    private var number: UInt64 = 0
    /// The paths written where a name has several spellings, in lower case.
    private var folded: Set<String> = []

    package init(_ top: FolderWriter, _ options: Options, _ notices: ReceiverNotices) {
        self.top = top
        self.options = options
        self.notices = notices
    }

    deinit { abandon() }

    package func take(_ reply: AgentReply, name: [UInt8]?) throws {
        switch reply {
        case .entry(let entry): try take(entry, name)
        case .data(let offset, let bytes):
            guard let open else { return }
            do { _ = try open.descriptor.writeAll(toAbsoluteOffset: Int64(clamping: offset), bytes) } catch {
                abandon()
                try destination(open.entry.path, error as? Errno ?? .ioError, "written")
                return
            }
            counts.byteCount += UInt64(bytes.count)
        case .fileEnd: try endFile()
        case .problem(let path, _, let text):
            if open?.entry.path == path { abandon() }
            report(FileProblem(path: path, why: text, cause: .image))
        case .extents, .done, .hello, .volumes, .mounted, .failed, .log: break
        }
    }

    package func endWalk() throws {
        abandon()
        while !levels.isEmpty { try leave() }
        links = [:]
    }

    package func finish() throws {
        do { for folder in [top] + filesystems.values { try folder.sync() } } catch {
            throw SystemCallError("write", "the files to their disk", error)
        }
    }

    // MARK: Entries

    private func take(_ entry: AgentEntry, _ name: [UInt8]?) throws {
        let parts = entry.components
        while levels.count > parts.count { try leave() }
        guard let own = parts.last ?? name else {
            // The root of a volume: its contents go to the top.
            levels.append(Level(folder: top, name: [], entry: nil))
            return
        }
        guard let parent = levels.isEmpty ? top : levels.last?.folder else {
            if entry.kind == .folder { levels.append(Level(folder: nil, name: own, entry: nil)) }
            return
        }
        switch entry.kind {
        case .folder: try takeFolder(entry, own, parent)
        case .file: try startFile(entry, own, parent)
        case .hardLink: try takeHardLink(entry, own, parent)
        case .link:
            try make(entry, own, in: parent, as: "made as a link") { (temporary) throws(Errno) in
                try parent.makeLink(temporary, to: entry.target)
            }
        case .pipe:
            try make(entry, own, in: parent, as: "made as a pipe") { (temporary) throws(Errno) in
                try parent.makePipe(temporary)
            }
        case .reparsePoint:
            report(FileProblem(path: entry.path, why: Self.reparseSentence(entry), cause: .image))
        case .characterDevice, .blockDevice, .socket, .other:
            counts.otherCount += 1
            warn(
                "special-files",
                "device nodes and sockets are not made (the first: \(AgentText.shown(entry.path))): `reforge files tar` keeps device nodes"
            )
        }
    }

    static func reparseSentence(_ entry: AgentEntry) -> String {
        "it is a reparse point of NTFS (\(AgentText.shown(entry.target))): its content is not on this disk (OneDrive and the like), or in a form that cannot be read here"
    }

    private func takeFolder(_ entry: AgentEntry, _ name: [UInt8], _ parent: FolderWriter) throws {
        var made: AgentEntry? = entry
        do {
            try parent.makeFolder(name)
        } catch  where error == .fileExists && options.overwrites {
            made = nil
        } catch {
            levels.append(Level(folder: nil, name: name, entry: nil))
            return try destination(entry.path, error, "made")
        }
        do {
            let folder = try parent.folder(name)
            if made == nil, let device = parent.node(name)?.device, filesystems[device] == nil {
                filesystems[device] = folder
            }
            levels.append(Level(folder: folder, name: name, entry: made))
        } catch {
            levels.append(Level(folder: nil, name: name, entry: nil))
            return try destination(entry.path, error, "opened as a folder")
        }
        counts.folderCount += 1
    }

    /// Leaves a folder: its time was changed by what was made in it.
    private func leave() throws {
        guard let level = levels.popLast(), let entry = level.entry else { return }
        guard let parent = levels.isEmpty ? top : levels.last?.folder else { return }
        setFacts(entry, of: level.name, in: parent)
    }

    // MARK: Files

    private func startFile(_ entry: AgentEntry, _ name: [UInt8], _ parent: FolderWriter) throws {
        guard try mayTake(name, for: entry, parent) else { return }
        do {
            let (temporary, descriptor) = try create(in: parent)
            let opened = OpenFile(entry: entry, temporary: temporary, name: name, descriptor: descriptor)
            open = opened
            // The whole length at once: what no data is written to stays a hole.
            do { try opened.descriptor.resize(to: Int64(clamping: entry.byteCount)) } catch {
                abandon()
                throw error as? Errno ?? Errno.ioError
            }
        } catch { try destination(entry.path, error as? Errno ?? .ioError, "made") }
    }

    /// Whether an entry may have this name; a reason against it is reported.
    private func mayTake(_ name: [UInt8], for entry: AgentEntry, _ parent: FolderWriter) throws -> Bool {
        guard let node = parent.node(name) else { return true }
        guard options.overwrites else {
            try destination(entry.path, .fileExists, "made")
            return false
        }
        guard !options.mustStay(node.device, node.inode) else {
            report(
                FileProblem(
                    path: entry.path,
                    why: "in its place is the image that is read, or a part of it: choose another destination",
                    cause: .destination))
            return false
        }
        return true
    }

    /// A new file; the caller closes it.
    private func create(in parent: FolderWriter) throws(Errno) -> ([UInt8], FileDescriptor) {
        while true {
            let temporary = temporaryName()
            do { return (temporary, try parent.createFile(temporary).release()) } catch  where error == .fileExists {}
        }
    }

    private func temporaryName() -> [UInt8] {
        number += 1
        return Array(".reforge-\(token)-\(number).part".utf8)
    }

    private func endFile() throws {
        guard let file = open else { return }
        open = nil
        let parent = levels.isEmpty ? top : levels.last?.folder
        do { try file.descriptor.close() } catch {
            parent?.remove(file.temporary)
            return try destination(file.entry.path, error as? Errno ?? .ioError, "written")
        }
        guard let parent else { return }
        setFacts(file.entry, of: file.temporary, in: parent)
        try name(file.entry, file.temporary, file.name, parent)
    }

    /// Gives a finished entry its name.
    private func name(_ entry: AgentEntry, _ temporary: [UInt8], _ name: [UInt8], _ parent: FolderWriter) throws {
        guard isFirstSpelling(name, temporary, parent) else {
            parent.remove(temporary)
            return report(
                FileProblem(
                    path: entry.path,
                    why:
                        "the destination does not tell upper from lower case, and has a file of the image by this name",
                    cause: .destination))
        }
        do { try parent.rename(temporary, to: name, replaces: options.overwrites) } catch {
            parent.remove(temporary)
            return try destination(entry.path, error, "made")
        }
        // rename(2) of two names of one file does nothing.
        if entry.kind == .hardLink { parent.remove(temporary) }
        counts.fileCount += 1
        if entry.linkID != 0, entry.kind != .hardLink {
            links[entry.linkID] = levels.map(\.name).filter { !$0.isEmpty } + [name]
        }
    }

    /// Whether a file that replaces another one of its name does not replace one of this command: on FAT, exFAT and
    /// NTFS, `a` and `A` are one file, and FAT drops dots at the end.
    private func isFirstSpelling(_ name: [UInt8], _ temporary: [UInt8], _ parent: FolderWriter) -> Bool {
        guard options.overwrites, parent.exists(Array(String(decoding: temporary, as: UTF8.self).uppercased().utf8))
        else { return true }
        let path = (levels.map(\.name) + [name]).map { part in
            let last = part.lastIndex { ![UInt8(ascii: "."), UInt8(ascii: " ")].contains($0) }
            return String(decoding: part.prefix(last.map { $0 + 1 } ?? part.count), as: UTF8.self).lowercased()
        }
        let text = path.joined(separator: "/")
        return folded.insert(text).inserted
    }

    /// Removes what there is of an unfinished file.
    private func abandon() {
        guard let file = open else { return }
        open = nil
        try? file.descriptor.close()
        (levels.isEmpty ? top : levels.last?.folder)?.remove(file.temporary)
    }

    private func make(
        _ entry: AgentEntry, _ own: [UInt8], in parent: FolderWriter, as what: String,
        _ body: ([UInt8]) throws(Errno) -> Void
    ) throws {
        guard try mayTake(own, for: entry, parent) else { return }
        let temporary = temporaryName()
        do { try body(temporary) } catch { return try destination(entry.path, error, what) }
        if entry.kind != .hardLink { setFacts(entry, of: temporary, in: parent) }
        try name(entry, temporary, own, parent)
    }

    private func takeHardLink(_ entry: AgentEntry, _ own: [UInt8], _ parent: FolderWriter) throws {
        guard let first = links[entry.linkID], let firstName = first.last else {
            return report(
                FileProblem(
                    path: entry.path, why: "it is another name of a file that could not be written",
                    cause: .destination))
        }
        let folder: FolderWriter
        do throws(Errno) {
            var found = top
            for part in first.dropLast() { found = try found.folder(part) }
            folder = found
        } catch { return try destination(entry.path, error, "linked") }
        guard try mayTake(own, for: entry, parent) else { return }
        let temporary = temporaryName()
        do { try parent.link(firstName, in: folder, as: temporary) } catch {
            guard [.notPermitted, .notSupported, .tooManyLinks, .noFunction].contains(error) else {
                return try destination(entry.path, error, "linked")
            }
            warn("hard-links", "the destination cannot hold hard links: each further name of a file is a copy")
            return try copy(firstName, in: folder, for: entry, own, parent)
        }
        try name(entry, temporary, own, parent)
    }

    private func copy(
        _ first: [UInt8], in folder: FolderWriter, for entry: AgentEntry, _ own: [UInt8], _ parent: FolderWriter
    ) throws {
        do {
            let source = try folder.openFile(first)
            let (temporary, target) = try create(in: parent)
            do {
                do { counts.byteCount += try target.copySparse(of: source.raw, byteCount: entry.byteCount) } catch {
                    try? target.close()
                    throw error
                }
                // Some filesystems refuse data only now.
                try target.close()
            } catch {
                parent.remove(temporary)
                throw error
            }
            setFacts(entry, of: temporary, in: parent)
            try name(entry, temporary, own, parent)
        } catch {
            try destination(entry.path, (error as? Errno) ?? (error as? SystemCallError)?.errno ?? .ioError, "copied")
        }
    }

    // MARK: Facts

    /// Owner, permissions, attributes and time. What the destination cannot hold is said once.
    private func setFacts(_ entry: AgentEntry, of name: [UInt8], in parent: FolderWriter) {
        var hasOwner = false
        if options.setsOwners {
            hasOwner = attempt("owners") { () throws(Errno) in try parent.setOwner(name, entry.owner, entry.group) }
        } else if entry.owner != SystemFacts.userID {
            warn("owners", "owners are not kept, which needs root: the files belong to the user who runs this")
        }
        for attribute in entry.attributes {
            let text = AgentText.shown(attribute.name)
            let kind = text.hasPrefix("system.posix_acl") ? "ACLs" : "attributes (\(text.prefix { $0 != "." }).…)"
            _ = attempt(kind) { () throws(Errno) in try parent.setAttribute(attribute.name, of: name, attribute.value) }
        }
        // Behind the attributes: a user cannot add any to a file that is only to be read.
        if entry.kind != .link {
            // Set-user-id for another owner would give that one's rights away.
            let permissions = hasOwner ? entry.permissions : entry.permissions & 0o1777
            _ = attempt("permissions") { () throws(Errno) in try parent.setPermissions(name, permissions) }
        }
        _ = attempt("times") { () throws(Errno) in
            try parent.setModified(name, entry.modified, entry.modifiedNanoseconds)
        }
    }

    private func attempt(_ what: String, _ body: () throws(Errno) -> Void) -> Bool {
        do {
            try body()
            return true
        } catch {
            warn("not-kept-\(what.prefix { $0 != " " })", "\(what) cannot be kept for all files: \(error.sentence)")
            return false
        }
    }

    // MARK: Messages

    /// - Throws: where no further file can be written either.
    private func destination(_ path: [UInt8], _ error: Errno, _ what: String) throws {
        let failure = SystemCallError("write", AgentText.shown(path), error)
        guard ![.noSpace, .diskQuotaExceeded, .ioError, .readOnlyFileSystem].contains(error) else { throw failure }
        let why =
            error == .fileExists
            ? "it exists at the destination (--overwrite replaces files)" : "it could not be \(what): \(error.sentence)"
        report(FileProblem(path: path, why: why, cause: .destination))
    }

    private func report(_ problem: FileProblem) {
        counts.add(problem)
        notices.problem(problem)
    }

    private func warn(_ code: String, _ text: String) {
        guard warned.insert(code).inserted else { return }
        notices.warning(code, text)
    }
}
