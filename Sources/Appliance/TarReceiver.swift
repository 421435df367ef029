// SPDX-License-Identifier: GPL-3.0-or-later

/// Writes the files of walks as one tar archive.
package final class TarReceiver: FileReceiver {
    /// A file up to this length is kept until all of it was read: one that cannot be read is left out. Of a longer one
    /// the header is written before that is known.
    private static let keptByteCount: UInt64 = 8 << 20

    /// The most zeros that are written in place of a file's rest.
    private static let mostFilled: UInt64 = 16 << 30

    private struct OpenFile {
        var entry: AgentEntry
        var path: [UInt8]
        var ranges: [Range<UInt64>]?
        var kept: [UInt8] = []
        var isStarted = false
        /// The data bytes in the archive that are still to come.
        var left: UInt64
    }

    package private(set) var counts = DeliveryCounts()
    private var tar: TarWriter
    private let notices: ReceiverNotices
    private var open: OpenFile?
    private var links: [UInt64: [UInt8]] = [:]
    private var hasWarned = false

    package init(_ notices: ReceiverNotices, write: @escaping ([UInt8]) throws -> Void) {
        tar = TarWriter(write)
        self.notices = notices
    }

    package func take(_ reply: AgentReply, name: [UInt8]?) throws {
        switch reply {
        case .entry(let entry): try take(entry, Self.path(entry, name))
        case .extents(let ranges):
            open?.ranges = ranges
            open?.left = ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) }
        case .data(_, let bytes): try take(bytes)
        case .fileEnd: try endFile()
        case .problem(let path, _, let text):
            if open?.entry.path == path { try breakOff() }
            report(FileProblem(path: path, why: text, cause: .image))
        case .done, .hello, .volumes, .mounted, .failed, .log: break
        }
    }

    package func endWalk() throws {
        try breakOff()
        links = [:]
    }

    package func finish() throws { try tar.end() }

    private static func path(_ entry: AgentEntry, _ name: [UInt8]?) -> [UInt8] {
        let top = name ?? [UInt8(ascii: ".")]
        return entry.path.isEmpty ? top : top + [UInt8(ascii: "/")] + entry.path
    }

    private func member(_ entry: AgentEntry, _ path: [UInt8], _ type: Character) -> TarWriter.Member {
        var member = TarWriter.Member(path: path, type: type.asciiValue ?? 0x30)
        (member.permissions, member.owner, member.group) = (entry.permissions, entry.owner, entry.group)
        (member.modified, member.modifiedNanoseconds) = (entry.modified, entry.modifiedNanoseconds)
        member.attributes = entry.attributes
        return member
    }

    private func take(_ entry: AgentEntry, _ path: [UInt8]) throws {
        func add(_ member: TarWriter.Member) throws {
            try tar.begin(member)
            if entry.linkID != 0, entry.kind != .hardLink { links[entry.linkID] = path }
            counts.fileCount += 1
        }
        switch entry.kind {
        case .folder:
            try tar.begin(member(entry, path + [UInt8(ascii: "/")], "5"))
            counts.folderCount += 1
        case .file: open = OpenFile(entry: entry, path: path, left: entry.byteCount)
        case .link:
            var link = member(entry, path, "2")
            link.linkPath = entry.target
            try add(link)
        case .hardLink:
            guard let first = links[entry.linkID] else {
                return report(
                    FileProblem(
                        path: entry.path, why: "it is another name of a file that could not be read", cause: .image))
            }
            var link = member(entry, path, "1")
            link.linkPath = first
            try add(link)
        case .characterDevice, .blockDevice:
            var device = member(entry, path, entry.kind == .blockDevice ? "4" : "3")
            (device.major, device.minor) = (entry.major, entry.minor)
            try add(device)
        case .pipe: try add(member(entry, path, "6"))
        case .reparsePoint:
            report(FileProblem(path: entry.path, why: FolderReceiver.reparseSentence(entry), cause: .image))
        case .socket, .other:
            counts.otherCount += 1
            if !hasWarned {
                notices.warning("special-files", "sockets are left out (the first: \(AgentText.shown(path)))")
            }
            hasWarned = true
        }
    }

    // MARK: Contents

    private func start() throws {
        guard var file = open, !file.isStarted else { return }
        var member = member(file.entry, file.path, "0")
        if let ranges = file.ranges {
            let map = TarWriter.sparseMap(ranges, byteCount: file.entry.byteCount)
            member.realByteCount = file.entry.byteCount
            member.byteCount = file.left + UInt64(map.count)
            try tar.begin(member)
            try tar.data(map)
        } else {
            member.byteCount = file.left
            try tar.begin(member)
        }
        file.isStarted = true
        open = file
    }

    private func take(_ bytes: [UInt8]) throws {
        guard let file = open, UInt64(bytes.count) <= file.left - UInt64(file.kept.count) else { return }
        counts.byteCount += UInt64(bytes.count)
        guard file.left > Self.keptByteCount || file.isStarted else {
            open?.kept += bytes
            return
        }
        try start()
        try tar.data(bytes)
        open?.left = file.left - UInt64(bytes.count)
    }

    private func endFile() throws {
        guard open != nil else { return }
        try start()
        guard let file = open else { return }
        try tar.data(file.kept)
        try tar.pad()
        if file.entry.linkID != 0 { links[file.entry.linkID] = file.path }
        counts.fileCount += 1
        open = nil
    }

    /// Ends a file whose contents cannot be read. If its header is written, zeros take the place of the rest, so that
    /// the archive stays readable; the problem that is reported says so.
    private func breakOff() throws {
        guard let file = open else { return }
        open = nil
        guard file.isStarted else { return }
        guard file.left <= Self.mostFilled else {
            throw ApplianceError.failed(
                "\(AgentText.shown(file.path)) cannot be read any further, and \(file.left) bytes of it are missing: the archive ends here. Leave this file out"
            )
        }
        var left = file.left
        while left > 0 {
            let count = min(left, 1 << 20)
            try tar.data([UInt8](repeating: 0, count: Int(count)))
            left -= count
        }
        try tar.pad()
        report(
            FileProblem(
                path: file.entry.path,
                why: "the archive has zeros in place of what could not be read of it: do not use it as it is",
                cause: .image))
    }

    private func report(_ problem: FileProblem) {
        counts.add(problem)
        notices.problem(problem)
    }
}
