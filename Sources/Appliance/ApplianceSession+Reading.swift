// SPDX-License-Identifier: GPL-3.0-or-later

extension ApplianceSession {
    /// The facts about one path.
    package func stat(_ mounted: Mounted, _ path: [UInt8], followsLast: Bool = false) throws -> AgentEntry {
        var found: AgentEntry?
        var problem: String?
        try walk(mounted, path, depth: 0, followsLast: followsLast) { reply in
            switch reply {
            case .entry(let entry): found = entry
            case .problem(_, _, let text): problem = text
            default: break
            }
        }
        guard let found else {
            throw ApplianceError.failed("\(AgentText.shown(path)): \(problem ?? "nothing is known")")
        }
        return found
    }

    /// The entries of a folder, without itself.
    package func list(_ mounted: Mounted, _ path: [UInt8]) throws -> [AgentEntry] {
        var entries: [AgentEntry] = []
        try walk(mounted, path, depth: 1, followsLast: true) { reply in
            if case .entry(let entry) = reply, !entry.path.isEmpty { entries.append(entry) }
        }
        return entries
    }

    /// All bytes of a small file; links are followed inside the volume. Holes are zeros.
    /// - Throws: if it is longer than `limit`, no file, or cannot be read as a whole.
    package func read(_ mounted: Mounted, _ path: [UInt8], limit: Int = 1 << 20) throws -> [UInt8] {
        let entry = try stat(mounted, path, followsLast: true)
        guard entry.kind == .file else { throw ApplianceError.failed("\(AgentText.shown(path)) is no file") }
        guard entry.byteCount <= UInt64(limit) else {
            throw ApplianceError.failed("\(AgentText.shown(path)) is longer than \(limit) bytes")
        }
        var bytes = [UInt8](repeating: 0, count: Int(entry.byteCount))
        var isWhole = false
        try walk(mounted, path, depth: 0, followsLast: true, contents: true) { reply in
            switch reply {
            case .data(let offset, let piece):
                guard let start = Int(exactly: offset), start <= bytes.count, piece.count <= bytes.count - start else {
                    throw ApplianceError.untrusted("a file that changes its length")
                }
                bytes.replaceSubrange(start..<start + piece.count, with: piece)
            case .fileEnd: isWhole = true
            case .problem(_, _, let text): throw ApplianceError.failed("\(AgentText.shown(path)): \(text)")
            default: break
            }
        }
        guard isWhole else { throw ApplianceError.failed("\(AgentText.shown(path)) could not be read") }
        return bytes
    }
}
