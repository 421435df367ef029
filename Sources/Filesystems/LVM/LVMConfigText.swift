// SPDX-License-Identifier: GPL-3.0-or-later

/// A section of LVM's configuration text (lvm.conf(5), "CONFIGURATION FILE SYNTAX"; `libdm/libdm-config.c`), the
/// format of a volume group's metadata.
struct LVMConfigSection: Sendable {
    /// A value; a scalar is an array of one.
    enum Value: Equatable, Sendable {
        case number(Int64)
        case text(String)
    }

    private(set) var values: [String: [Value]] = [:]
    private(set) var sections: [(name: String, section: LVMConfigSection)] = []

    /// The subsection of that name.
    func section(_ name: String) -> LVMConfigSection? { sections.first { $0.name == name }?.section }

    /// The single number under a key.
    func number(_ key: String) -> UInt64? {
        guard case .number(let number)? = values[key]?.first, values[key]?.count == 1 else { return nil }
        return UInt64(exactly: number)
    }

    /// The single text under a key.
    func text(_ key: String) -> String? {
        guard case .text(let text)? = values[key]?.first, values[key]?.count == 1 else { return nil }
        return text
    }

    /// The texts under a key, if it has only texts.
    func texts(_ key: String) -> [String]? {
        guard let values = values[key] else { return nil }
        let texts = values.compactMap { value -> String? in if case .text(let text) = value { text } else { nil } }
        return texts.count == values.count ? texts : nil
    }

    /// Parses a whole text.
    /// - Throws: `FilesystemError.damaged` if the format is wrong or a size limit is exceeded.
    init(parsing text: [UInt8]) throws(FilesystemError) {
        var parser = LVMConfigParser(text)
        self = try parser.section(depth: 0)
    }

    fileprivate init() {}

    fileprivate mutating func add(_ key: String, _ value: [Value]) throws(FilesystemError) {
        guard values.updateValue(value, forKey: key) == nil else { throw .damaged("its metadata names \(key) twice") }
    }

    fileprivate mutating func add(_ name: String, _ section: LVMConfigSection) { sections.append((name, section)) }
}

private struct LVMConfigParser {
    private enum Token: Equatable {
        case word(String)
        case quoted(String)
        case mark(UInt8)
        case end
    }

    private let text: [UInt8]
    private var position = 0
    private var budget = 250_000
    private static let deepest = 8

    init(_ text: [UInt8]) { self.text = text }

    /// The content between braces, or up to the end at depth 0.
    mutating func section(depth: Int) throws(FilesystemError) -> LVMConfigSection {
        guard depth <= Self.deepest else { throw .damaged("its metadata is nested too deep") }
        var section = LVMConfigSection()
        var names: Set<String> = []
        while true {
            switch try next() {
            case .end where depth == 0: return section
            case .mark(UInt8(ascii: "}")) where depth > 0: return section
            case .word(let name), .quoted(let name):
                // A slash would be a path of sections.
                guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")) else { throw unexpected }
                switch try next() {
                case .mark(UInt8(ascii: "=")): try section.add(name, try value())
                case .mark(UInt8(ascii: "{")):
                    guard names.insert(name).inserted else { throw .damaged("its metadata names \(name) twice") }
                    section.add(name, try self.section(depth: depth + 1))
                default: throw unexpected
                }
            default: throw unexpected
            }
        }
    }

    private mutating func value() throws(FilesystemError) -> [LVMConfigSection.Value] {
        let first = try next()
        guard first == .mark(UInt8(ascii: "[")) else { return [try single(first)] }
        var values: [LVMConfigSection.Value] = []
        while true {
            switch try next() {
            case .mark(UInt8(ascii: "]")): return values
            case .mark(UInt8(ascii: ",")): continue
            case let token: values.append(try single(token))
            }
        }
    }

    private func single(_ token: Token) throws(FilesystemError) -> LVMConfigSection.Value {
        switch token {
        case .quoted(let text): return .text(text)
        case .word(let word):
            // LVM reads a leading zero as octal, and never writes one.
            if word == "0" || !word.hasPrefix("0"), let number = Int64(word) { return .number(number) }
            // A number with a point, or a word without quotes: not used by any relevant key.
            return .text(word)
        default: throw unexpected
        }
    }

    private var unexpected: FilesystemError { .damaged("its metadata text is not understood at byte \(position)") }

    private mutating func next() throws(FilesystemError) -> Token {
        budget -= 1
        guard budget > 0 else { throw .damaged("its metadata text holds more than is followed") }
        skipSpace()
        // A NUL ends the text.
        guard position < text.count, text[position] != 0 else { return .end }
        let byte = text[position]
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ","),
            UInt8(ascii: "="):
            position += 1
            return .mark(byte)
        case UInt8(ascii: "\""), UInt8(ascii: "'"): return .quoted(try quoted(byte))
        default:
            let start = position
            while position < text.count, Self.isWord(text[position]) { position += 1 }
            guard position > start else { throw unexpected }
            return .word(String(decoding: text[start..<position], as: UTF8.self))
        }
    }

    private mutating func quoted(_ quote: UInt8) throws(FilesystemError) -> String {
        var bytes: [UInt8] = []
        position += 1
        while position < text.count, text[position] != 0, text[position] != quote {
            // A backslash escapes the next character only between double quotes.
            if quote == UInt8(ascii: "\""), text[position] == UInt8(ascii: "\\"), position + 1 < text.count {
                position += 1
            }
            bytes.append(text[position])
            position += 1
        }
        guard position < text.count, text[position] == quote else { throw unexpected }
        position += 1
        return String(decoding: bytes, as: UTF8.self)
    }

    private mutating func skipSpace() {
        while position < text.count {
            switch text[position] {
            case UInt8(ascii: " "), 9...13: position += 1
            case UInt8(ascii: "#"):
                while position < text.count, text[position] != UInt8(ascii: "\n"), text[position] != 0 { position += 1 }
            default: return
            }
        }
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case 0...32, UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ","),
            UInt8(ascii: "="), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "#"):
            false
        default: true
        }
    }
}
