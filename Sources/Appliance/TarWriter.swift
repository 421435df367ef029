// SPDX-License-Identifier: GPL-3.0-or-later

/// Writes a tar archive in the pax format (POSIX.1-2017, `pax`), with GNU's records for sparse files ("GNU.sparse" 1.0,
/// GNU tar manual, "Storing Sparse Files") and star's for extended attributes (`SCHILY.xattr`).
package struct TarWriter {
    /// What one member is.
    struct Member {
        var path: [UInt8]
        var type: UInt8
        var permissions: UInt16 = 0
        var owner: UInt32 = 0
        var group: UInt32 = 0
        /// The bytes of data in the archive.
        var byteCount: UInt64 = 0
        var modified: Int64 = 0
        var modifiedNanoseconds: UInt32 = 0
        var linkPath: [UInt8] = []
        var major: UInt32 = 0
        var minor: UInt32 = 0
        var attributes: [AgentEntry.Attribute] = []
        /// The length of a sparse file, whose data begins with its map.
        var realByteCount: UInt64?
    }

    static let blockByteCount = 512
    private let write: ([UInt8]) throws -> Void
    private var total: UInt64 = 0

    package init(_ write: @escaping ([UInt8]) throws -> Void) { self.write = write }

    private mutating func put(_ bytes: [UInt8]) throws {
        try write(bytes)
        total &+= UInt64(bytes.count)
    }

    mutating func begin(_ member: Member) throws {
        var header = member
        let records = Self.records(&header)
        if !records.isEmpty {
            let extended = Member(
                path: Array("PaxHeaders/".utf8) + Self.last(member.path).prefix(80), type: UInt8(ascii: "x"),
                permissions: 0o644, byteCount: UInt64(records.count),
                modified: max(0, min(member.modified, 0o77777777777)))
            try put(Self.header(extended))
            try put(records)
            try pad()
        }
        try put(Self.header(header))
    }

    mutating func data(_ bytes: [UInt8]) throws { try put(bytes) }

    /// Fills the last block of a member.
    mutating func pad() throws {
        let rest = Int(total % UInt64(Self.blockByteCount))
        if rest != 0 { try put([UInt8](repeating: 0, count: Self.blockByteCount - rest)) }
    }

    /// Two blocks of zeros, and a full record of 20 blocks.
    mutating func end() throws {
        try put([UInt8](repeating: 0, count: 2 * Self.blockByteCount))
        let rest = Int(total % UInt64(20 * Self.blockByteCount))
        if rest != 0 { try put([UInt8](repeating: 0, count: 20 * Self.blockByteCount - rest)) }
    }

    /// The map at the front of a sparse file's data.
    static func sparseMap(_ ranges: [Range<UInt64>], byteCount: UInt64) -> [UInt8] {
        var ranges = ranges
        // GNU tar expects the end of the file in the map.
        if (ranges.last?.upperBound ?? 0) < byteCount { ranges.append(byteCount..<byteCount) }
        var text = "\(ranges.count)\n"
        for range in ranges { text += "\(range.lowerBound)\n\(range.upperBound - range.lowerBound)\n" }
        var bytes = Array(text.utf8)
        let rest = bytes.count % blockByteCount
        if rest != 0 { bytes += [UInt8](repeating: 0, count: blockByteCount - rest) }
        return bytes
    }

    // MARK: Extended headers

    /// The records that a plain header cannot hold, which are also adapted in `member`.
    private static func records(_ member: inout Member) -> [UInt8] {
        var bytes: [UInt8] = []
        func add(_ key: String, _ value: [UInt8]) { bytes += record(Array(key.utf8), value) }
        if let real = member.realByteCount {
            add("GNU.sparse.major", Array("1".utf8))
            add("GNU.sparse.minor", Array("0".utf8))
            add("GNU.sparse.name", member.path)
            add("GNU.sparse.realsize", Array(String(real).utf8))
            member.path = Array("GNUSparseFile.0/".utf8) + last(member.path).prefix(80)
        } else if !isPlain(member.path) {
            add("path", member.path)
        }
        if !isPlain(member.linkPath) { add("linkpath", member.linkPath) }
        if member.byteCount > 0o77777777777 { add("size", Array(String(member.byteCount).utf8)) }
        if member.modifiedNanoseconds != 0 || !(0...0o77777777777).contains(member.modified) {
            add("mtime", Array(time(member.modified, member.modifiedNanoseconds).utf8))
        }
        if member.owner > 0o7777777 { add("uid", Array(String(member.owner).utf8)) }
        if member.group > 0o7777777 { add("gid", Array(String(member.group).utf8)) }
        for attribute in member.attributes {
            bytes += record(Array("SCHILY.xattr.".utf8) + escaped(attribute.name), attribute.value)
        }
        return bytes
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts itself.
    static func record(_ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
        let rest = key.count + value.count + 3
        var length = rest
        while String(length).utf8.count + rest != length { length = String(length).utf8.count + rest }
        return Array("\(length) ".utf8) + key + [UInt8(ascii: "=")] + value + [10]
    }

    /// GNU tar (`xheader.c`) writes `=` and `%` in a key so, as `=` ends it.
    private static func escaped(_ name: [UInt8]) -> [UInt8] {
        name.flatMap { byte in
            switch byte {
            case UInt8(ascii: "%"): Array("%25".utf8)
            case UInt8(ascii: "="): Array("%3D".utf8)
            default: [byte]
            }
        }
    }

    /// Decimal seconds; before 1970 the nanoseconds count towards later, so they are subtracted.
    static func time(_ seconds: Int64, _ nanoseconds: UInt32) -> String {
        func digits(_ number: UInt32) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, 9 - text.utf8.count)) + text
        }
        guard nanoseconds > 0, nanoseconds < 1_000_000_000 else { return String(seconds) }
        if seconds >= 0 { return "\(seconds).\(digits(nanoseconds))" }
        return "-\((seconds + 1).magnitude).\(digits(1_000_000_000 - nanoseconds))"
    }

    private static func last(_ path: [UInt8]) -> ArraySlice<UInt8> {
        path.split(separator: UInt8(ascii: "/")).last ?? []
    }

    /// Whether a header's field of 100 bytes holds it in any character set.
    private static func isPlain(_ path: [UInt8]) -> Bool { path.count <= 100 && path.allSatisfy { $0 < 0x80 } }

    // MARK: The header

    /// A header in the ustar format.
    private static func header(_ member: Member) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: blockByteCount)
        func put(_ bytes: some Sequence<UInt8>, at offset: Int) {
            for (index, byte) in bytes.enumerated() { block[offset + index] = byte }
        }
        func octal(_ number: UInt64, at offset: Int, digits: Int) {
            let text = String(number, radix: 8)
            // What does not fit is in an extended header.
            let shown = text.utf8.count > digits ? String(repeating: "7", count: digits) : text
            put((String(repeating: "0", count: digits - shown.utf8.count) + shown).utf8, at: offset)
        }
        put(member.path.prefix(100), at: 0)
        octal(UInt64(member.permissions), at: 100, digits: 7)
        octal(UInt64(member.owner), at: 108, digits: 7)
        octal(UInt64(member.group), at: 116, digits: 7)
        octal(member.byteCount, at: 124, digits: 11)
        octal(UInt64(clamping: member.modified), at: 136, digits: 11)
        put([UInt8](repeating: 32, count: 8), at: 148)
        block[156] = member.type
        put(member.linkPath.prefix(100), at: 157)
        put("ustar\u{0}00".utf8, at: 257)
        octal(UInt64(member.major), at: 329, digits: 7)
        octal(UInt64(member.minor), at: 337, digits: 7)
        let sum = block.reduce(0) { $0 + UInt64($1) }
        octal(sum, at: 148, digits: 6)
        (block[154], block[155]) = (0, 32)
        return block
    }
}
