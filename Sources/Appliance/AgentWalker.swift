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
    private let send: (AgentReply) throws(ApplianceError) -> Void
    /// Files with several names, in order of their first one.
    private var linkIDs: [FileID: UInt64] = [:]
    private var buffer = [UInt8](repeating: 0, count: AgentReply.pieceByteCount)

    /// Each level holds a descriptor, here and on the host.
    static let deepest = 400
    /// Leaves room in a frame for the other fields.
    private static let mostAttributeBytes = 768 << 10

    init(_ walk: AgentRequest.Walk, send: @escaping (AgentReply) throws(ApplianceError) -> Void) {
        self.walk = walk
        self.send = send
    }

    func visit(_ start: TreeNode) throws(ApplianceError) { try visit(start, path: [], level: 0) }

    private func visit(_ node: TreeNode, path: [UInt8], level: Int) throws(ApplianceError) {
        let entry: AgentEntry
        do { entry = try describe(node, path) } catch {
            try problem(path, error)
            return
        }
        try send(.entry(entry))
        if entry.hasContents, walk.contents { try sendContents(of: node, entry) }
        guard entry.kind == .folder, level < walk.depth else { return }
        guard level < Self.deepest else {
            try send(.problem(path: path, code: 0, text: "the folders below it are nested too deep"))
            return
        }
        let names: [[UInt8]]
        do { names = try node.names() } catch {
            try problem(path, error)
            return
        }
        for name in names {
            let inner = path + (path.isEmpty ? [] : [UInt8(ascii: "/")]) + name
            guard inner.count <= AgentEntry.longestPath else {
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

    private func problem(_ path: [UInt8], _ error: Errno) throws(ApplianceError) {
        try send(.problem(path: path, code: error.rawValue, text: error.readingSentence))
    }

    private func describe(_ node: TreeNode, _ path: [UInt8]) throws(Errno) -> AgentEntry {
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
            linkIDs[id] = entry.linkID
        }
        if walk.contents {
            entry.attributes = try node.attributes().map { AgentEntry.Attribute(name: $0.name, value: $0.value) }
            let byteCount = entry.attributes.reduce(0) { $0 + $1.name.count + $1.value.count + 8 }
            guard byteCount <= Self.mostAttributeBytes else { throw .outOfRange }
        }
        return entry
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
