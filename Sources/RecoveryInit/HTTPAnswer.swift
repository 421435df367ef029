// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

/// The header fields of an HTTP response (RFC 9110) needed for a resumable download.
struct HTTPAnswer: Equatable {
    /// 100 to 999.
    var statusCode: Int
    /// The length of the body, in bytes.
    var contentLength: UInt64?
    /// Of a part (206): its start, and the length of the whole file if given.
    var partStart: UInt64?
    var totalLength: UInt64?
    /// The identifier of this version of the file; strong ones only.
    var entityTag: String?
    /// The modification time, as written by the server.
    var lastModified: String?

    /// Parses the header dumped by curl. If there are several responses (100 Continue), the last one counts.
    /// - Returns: `nil` if there is none, or it is incomplete.
    init?(header text: String) {
        // CR LF is one Character.
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        guard let start = lines.lastIndex(where: { $0.hasPrefix("HTTP/") }),
            let end = lines[start...].firstIndex(where: \.isEmpty), end < lines.count - 1,
            let code = HTTPStream.statusCode(header: String(lines[start]))
        else { return nil }
        statusCode = code
        for line in lines[start + 1..<end] {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            let value = String(parts[1]).strippedSpaces
            switch parts[0].lowercased() {
            case "content-length": contentLength = UInt64(value)
            case "content-range": (partStart, totalLength) = Self.range(value)
            // A weak one (`W/"…"`) may remain equal when bytes change: RFC 9110 §13.1.5 excludes it for ranges.
            case "etag": entityTag = Self.isHarmless(value) && value.hasPrefix("\"") ? value : nil
            case "last-modified": lastModified = Self.isHarmless(value) ? value : nil
            default: break
            }
        }
    }

    /// The value for If-Range in later requests.
    var validator: String? { entityTag ?? lastModified }

    /// Whether this response can be about the same version of the file. A part need not repeat the time (RFC 9110
    /// §15.3.7).
    func fits(_ before: HTTPAnswer) -> Bool {
        func agree<Value: Equatable>(_ one: Value?, _ other: Value?) -> Bool {
            one == nil || other == nil || one == other
        }
        return agree(entityTag, before.entityTag) && agree(lastModified, before.lastModified)
            && agree(wholeLength, before.wholeLength)
    }

    /// Checked because it is sent back to the server in a request header.
    private static func isHarmless(_ text: String) -> Bool {
        (1...1024).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F }
    }

    /// The length of the whole file, if the response contains it.
    var wholeLength: UInt64? { statusCode == 206 ? totalLength : contentLength }

    /// `bytes 100-199/1000`, `bytes 100-199/*` (RFC 9110 §14.4)
    private static func range(_ text: String) -> (start: UInt64?, total: UInt64?) {
        guard let rest = text.valueAfter("bytes ") else { return (nil, nil) }
        let parts = rest.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let dash = parts[0].firstIndex(of: "-") else { return (nil, nil) }
        return (UInt64(parts[0][..<dash]), UInt64(parts[1]))
    }
}
