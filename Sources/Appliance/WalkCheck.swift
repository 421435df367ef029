// SPDX-License-Identifier: GPL-3.0-or-later

/// Checks the order of a walk's answers, so that those who use them can rely on it.
struct WalkCheck {
    private let contents: Bool
    private let depth: UInt32
    private var isFirst = true
    /// The entry that was sent last, and the bytes of its contents so far.
    private var last: AgentEntry?
    private var isOpen = false
    private var extents: [Range<UInt64>] = []
    private var position: UInt64 = 0
    /// The components of the folder that the next entry is in or above.
    private var folders: [[UInt8]] = []
    private var linkIDs: UInt64 = 0
    private var isDone = false

    init(contents: Bool, depth: UInt32) {
        self.contents = contents
        self.depth = depth
    }

    mutating func take(_ reply: AgentReply) throws(ApplianceError) {
        guard !isDone else { throw .untrusted("an answer behind the last one") }
        switch reply {
        case .entry(let entry): try take(entry)
        case .extents(let ranges):
            guard isOpen, let last, position == 0, extents == [0..<last.byteCount] || last.byteCount == 0,
                (ranges.last?.upperBound ?? 0) <= last.byteCount
            else { throw .untrusted("ranges at the wrong place") }
            extents = ranges
        case .data(let offset, let bytes): try take(offset, UInt64(bytes.count))
        case .fileEnd:
            guard isOpen, extents.isEmpty else { throw .untrusted("the end of a file before its contents") }
            isOpen = false
        case .problem(let path, _, _):
            guard
                path.isEmpty
                    || path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                        .allSatisfy({ AgentEntry.isName(Array($0)) })
            else { throw .untrusted("the path \(AgentText.shown(path))") }
            guard !isOpen || path == last?.path else { throw .untrusted("a problem elsewhere within a file") }
            isOpen = false
        case .done:
            guard !isOpen else { throw .untrusted("the end within a file") }
            isDone = true
        case .hello, .volumes, .mounted, .failed, .log: throw .untrusted("an answer to another request")
        }
    }

    private mutating func take(_ entry: AgentEntry) throws(ApplianceError) {
        guard !isOpen else { throw .untrusted("an entry within a file") }
        let parts = entry.components
        guard isFirst == parts.isEmpty, parts.count <= Int(depth), parts.count <= AgentWalker.deepest + 1 else {
            throw .untrusted("an entry at the wrong place")
        }
        if let last {
            guard AgentEntry.precedes(last.path, entry.path) else { throw .untrusted("entries out of order") }
            let parent = Array(parts.dropLast())
            guard folders.count >= parent.count, Array(folders.prefix(parent.count)) == parent, hasFolder else {
                throw .untrusted("an entry before its folder")
            }
            folders = parent
        }
        isFirst = false
        hasFolder = hasFolder || entry.kind == .folder
        if entry.kind == .folder { folders = parts }
        if entry.kind == .hardLink {
            guard entry.linkID <= linkIDs else { throw .untrusted("a link to no file") }
        } else if entry.linkID != 0 {
            guard entry.linkID == linkIDs + 1 else { throw .untrusted("links out of order") }
            linkIDs += 1
        }
        last = entry
        position = 0
        isOpen = contents && entry.hasContents
        extents = entry.byteCount > 0 ? [0..<entry.byteCount] : []
    }

    private var hasFolder = false

    private mutating func take(_ offset: UInt64, _ count: UInt64) throws(ApplianceError) {
        guard isOpen, let range = extents.first, count > 0, offset == max(position, range.lowerBound),
            count <= range.upperBound - offset
        else { throw .untrusted("contents outside of their file") }
        position = offset + count
        if position == range.upperBound { extents.removeFirst() }
    }
}
