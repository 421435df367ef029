// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Sends the entries at and below a path. Whatever cannot be read is sent as a problem, and the walk continues.
final class AgentWalker {
    private struct FileID: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private let walk: AgentRequest.Walk
    /// The errors that the kernel has logged since it was asked last.
    private let kernelErrors: () -> [String]
    private let send: (AgentReply) throws(ApplianceError) -> Void
    /// Files with several names, in order of their first one.
    private var linkIDs: [FileID: UInt64] = [:]
    /// The file with several names that was described last, if this is its first one. Its number counts once it is sent.
    private var firstName: FileID?
    private var buffer = [UInt8](repeating: 0, count: AgentReply.pieceByteCount)

    /// Each level holds a descriptor, here and on the host.
    static let deepest = 400
    /// Leaves room in a frame for the other fields.
    private static let mostAttributeBytes = 768 << 10

    init(
        _ walk: AgentRequest.Walk, kernelErrors: @escaping () -> [String],
        send: @escaping (AgentReply) throws(ApplianceError) -> Void
    ) {
        self.walk = walk
        self.kernelErrors = kernelErrors
        self.send = send
    }

    func visit(_ start: TreeNode) throws(ApplianceError) { try visit(start, path: [], level: 0) }

    private func visit(_ node: TreeNode, path: [UInt8], level: Int) throws(ApplianceError) {
        var entry: AgentEntry
        do { entry = try describe(node, path) } catch {
            try problem(path, error)
            return
        }
        try addAttributes(of: node, to: &entry)
        // A damaged filesystem can have facts that the host does not accept; they are no reason to end the walk.
        do { try entry.check() } catch {
            try send(.problem(path: path, code: 0, text: "it is damaged: its type, times or target are impossible"))
            return
        }
        if let firstName { linkIDs[firstName] = entry.linkID }
        try send(.entry(entry))
        if entry.hasContents, walk.contents { try sendContents(of: node, entry) }
        guard entry.kind == .folder, level < walk.depth else { return }
        guard level < Self.deepest else {
            try send(.problem(path: path, code: 0, text: "the folders below it are nested too deep"))
            return
        }
        for name in try names(of: node, path) {
            let inner = path + (path.isEmpty ? [] : [UInt8(ascii: "/")]) + name
            guard inner.count <= AgentEntry.longestPath, AgentEntry.isName(name) else {
                try send(.problem(path: path, code: 0, text: "a path in it is too long"))
                continue
            }
            let child: TreeNode
            do { child = try node.child(name) } catch {
                try problem(inner, error)
                continue
            }
            try visit(child, path: inner, level: level + 1)
        }
    }

    /// The names in a folder. Drivers skip damaged blocks of a folder without an error (ext4: `htree_dirblock_to_tree`,
    /// FAT: `fat__get_entry`); they only log them.
    private func names(of node: TreeNode, _ path: [UInt8]) throws(ApplianceError) -> [[UInt8]] {
        _ = kernelErrors()
        let (names, failure) = node.names()
        let logged = kernelErrors().first
        if let failure, names.isEmpty {
            try problem(path, failure)
        } else if let why = failure?.readingSentence ?? logged {
            try send(
                .problem(
                    path: path, code: failure?.rawValue ?? 0,
                    text: "the folder is damaged, and some of what it held may be missing here (\(why))"))
        }
        let (once, repeated) = Self.unique(names)
        for name in repeated {
            try send(
                .problem(
                    path: path, code: 0,
                    text: "the folder is damaged: it has several entries named \(AgentText.shown(name)), and only the "
                        + "first can be read"))
        }
        return once
    }

    /// A damaged folder can have a name twice; the kernel opens the first entry for both.
    /// - Parameter names: sorted.
    static func unique(_ names: [[UInt8]]) -> (once: [[UInt8]], repeated: [[UInt8]]) {
        var (once, repeated): ([[UInt8]], [[UInt8]]) = ([], [])
        for name in names {
            if name != once.last { once.append(name) } else if name != repeated.last { repeated.append(name) }
        }
        return (once, repeated)
    }

    private func problem(_ path: [UInt8], _ error: Errno) throws(ApplianceError) {
        try send(.problem(path: path, code: error.rawValue, text: error.readingSentence))
    }

    private func describe(_ node: TreeNode, _ path: [UInt8]) throws(Errno) -> AgentEntry {
        firstName = nil
        let status = try node.status()
        var entry = AgentEntry(status, kind: Self.kind(status.kind), path: path)
        if status.kind == .link {
            entry.target = try node.linkTarget()
            // What ntfs-3g shows in place of a reparse point that it has no plugin for.
            if entry.target.starts(with: Array("unsupported reparse".utf8)) { entry.kind = .reparsePoint }
        }
        if status.kind != .folder, status.linkCount > 1 {
            let id = FileID(device: status.device, inode: status.inode)
            if let known = linkIDs[id] {
                (entry.kind, entry.linkID) = (.hardLink, known)
                return entry
            }
            entry.linkID = UInt64(linkIDs.count) + 1
            firstName = id
        }
        return entry
    }

    /// Adds the attributes. One that cannot be read does not keep the contents back.
    private func addAttributes(of node: TreeNode, to entry: inout AgentEntry) throws(ApplianceError) {
        guard walk.contents ? entry.kind != .hardLink : walk.attributes else { return }
        var (found, failure) = node.attributes()
        var byteCount = 0
        let all = found.count
        found = found.filter { attribute in
            byteCount += attribute.name.count + attribute.value.count + 8
            return byteCount <= Self.mostAttributeBytes
        }
        if found.count < all { failure = .outOfRange }
        entry.attributes = found.map { AgentEntry.Attribute(name: $0.name, value: $0.value) }
        guard let failure else { return }
        try send(
            .problem(
                path: entry.path, code: failure.rawValue,
                text: "not all of its extended attributes (ACLs, NTFS streams) can be read: \(failure.sentence)"))
    }

    private static func kind(_ kind: TreeNode.Kind) -> AgentEntry.Kind {
        switch kind {
        case .file: .file
        case .folder: .folder
        case .link: .link
        case .characterDevice: .characterDevice
        case .blockDevice: .blockDevice
        case .pipe: .pipe
        case .socket: .socket
        case .other: .other
        }
    }

    // MARK: Contents

    private func sendContents(of node: TreeNode, _ entry: AgentEntry) throws(ApplianceError) {
        do {
            let file = try node.openForReading()
            let ranges = try Self.ranges(of: file.raw, byteCount: entry.byteCount)
            if ranges != [0..<entry.byteCount] { try send(.extents(ranges)) }
            for range in ranges { try sendRange(range, of: file.raw) }
            try send(.fileEnd)
        } catch let error as Errno {
            try problem(entry.path, error)
        } catch let error as ApplianceError {
            throw error
        } catch {
            throw .failed("\(error)")
        }
    }

    /// The ranges with data; holes between the last ones count as data where there are too many.
    private static func ranges(of file: FileDescriptor, byteCount: UInt64) throws(Errno) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        var position: UInt64 = 0
        while let range = try TreeNode.nextData(of: file, from: position, byteCount: byteCount) {
            guard ranges.count + 1 < AgentReply.mostExtents else {
                ranges.append(range.lowerBound..<byteCount)
                break
            }
            ranges.append(range)
            position = range.upperBound
        }
        return ranges
    }

    private func sendRange(_ range: Range<UInt64>, of file: FileDescriptor) throws {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let wanted = min(UInt64(buffer.count), range.upperBound - offset)
            let count = try buffer.withUnsafeMutableBytes {
                try file.read(
                    fromAbsoluteOffset: Int64(offset), into: UnsafeMutableRawBufferPointer(rebasing: $0[..<Int(wanted)])
                )
            }
            // Shorter than its size: the filesystem contradicts itself.
            guard count > 0 else { throw Errno.ioError }
            try send(.data(offset: offset, Array(buffer[..<count])))
            offset += UInt64(count)
        }
    }
}
