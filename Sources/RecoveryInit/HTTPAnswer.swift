// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

/// What the header of an HTTP answer says (RFC 9110), as far as a download that can be resumed needs it.
struct HTTPAnswer: Equatable {
    /// 100 to 999.
    var statusCode: Int
    /// The length of what follows, in bytes.
    var contentLength: UInt64?
    /// Of a part (206): where it starts, and the length of the whole where that is told.
    var partStart: UInt64?
    var totalLength: UInt64?
    /// What names this version of the file; strong ones only.
    var entityTag: String?
    /// When the file was changed, as the server writes it.
    var lastModified: String?

    /// Parses what curl dumped. Of several answers (100 Continue) the last counts.
    /// - Returns: `nil` where there is none, or where it has not arrived whole.
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
            // A weak one (`W/"…"`) may stay the same where bytes change: RFC 9110 §13.1.5 takes none for a range.
            case "etag": entityTag = Self.isHarmless(value) && value.hasPrefix("\"") ? value : nil
            case "last-modified": lastModified = Self.isHarmless(value) ? value : nil
            default: break
            }
        }
    }

    /// What a later request may name this version by, in If-Range.
    var validator: String? { entityTag ?? lastModified }

    /// Whether this can be an answer about the same version of the file. A part need not repeat the time (RFC 9110 §15.3.7).
    func fits(_ before: HTTPAnswer) -> Bool {
        func agree<Value: Equatable>(_ one: Value?, _ other: Value?) -> Bool {
            one == nil || other == nil || one == other
        }
        return agree(entityTag, before.entityTag) && agree(lastModified, before.lastModified)
            && agree(wholeLength, before.wholeLength)
    }

    /// It goes back to the server in a header of ours.
    private static func isHarmless(_ text: String) -> Bool {
        (1...1024).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F }
    }

    /// The length of the whole file, where the answer tells it.
    var wholeLength: UInt64? { statusCode == 206 ? totalLength : contentLength }

    /// `bytes 100-199/1000`, `bytes 100-199/*` (RFC 9110 §14.4)
    private static func range(_ text: String) -> (start: UInt64?, total: UInt64?) {
        guard let rest = text.valueAfter("bytes ") else { return (nil, nil) }
        let parts = rest.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let dash = parts[0].firstIndex(of: "-") else { return (nil, nil) }
        return (UInt64(parts[0][..<dash]), UInt64(parts[1]))
    }
}
