// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Reads the part of XML that block maps are written in: elements with attributes, text, comments and a declaration. No
/// entities, no sections of raw text, no definitions of types.
struct BMapScanner {
    /// An element that has ended.
    struct Element {
        /// The names of its ancestors and its own.
        var path: [String]
        var attributes: [String: String]
        /// The text in it, without that of elements in it.
        var text: String
        /// The place of the text, for an element that has no others.
        var textPlace: Range<Int>
    }

    private let bytes: [UInt8]
    private var position = 0
    private var open: [(name: String, attributes: [String: String], textStart: Int)] = []
    private var hasRoot = false
    private static let deepest = 8

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The next element that ends; `nil` at the end of a complete document.
    mutating func next() throws(ParsingError) -> Element? {
        while position < bytes.count {
            guard bytes[position] == UInt8(ascii: "<") else {
                guard !open.isEmpty || Self.isSpace(bytes[position]) else { throw unexpected }
                guard bytes[position] != UInt8(ascii: "&") else { throw .invalid(what: "an entity in XML") }
                position += 1
                continue
            }
            if try skip("<?", to: "?>") { continue }
            if try skip("<!--", to: "-->") { continue }
            if holds("</") {
                if let element = try close() { return element }
            } else {
                try begin()
            }
        }
        guard open.isEmpty, hasRoot else { throw .invalid(what: "the end of the XML") }
        return nil
    }

    static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }

    private var unexpected: ParsingError { .invalid(what: "the XML at byte \(position)") }

    private func holds(_ text: StaticString) -> Bool { bytes[position...].starts(with: Array("\(text)".utf8)) }

    private mutating func skip(_ start: StaticString, to end: StaticString) throws(ParsingError) -> Bool {
        guard holds(start) else { return false }
        position += start.utf8CodeUnitCount
        let content = position
        let ending = Array("\(end)".utf8)
        // Both kinds end with this byte.
        while let mark = bytes[position...].firstIndex(of: UInt8(ascii: ">")) {
            position = mark + 1
            if position - ending.count >= content, bytes[..<position].suffix(ending.count).elementsEqual(ending) {
                return true
            }
        }
        throw unexpected
    }

    private mutating func close() throws(ParsingError) -> Element? {
        let end = position
        position += 2
        let name = word()
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: ">"), let last = open.last, last.name == name
        else {
            throw unexpected
        }
        position += 1
        let path = open.map(\.name)
        open.removeLast()
        // A remark between the tags would be part of the text: no writer puts one there.
        let place = last.textStart..<end
        let isPlain = !bytes[place].contains(UInt8(ascii: "<"))
        return Element(
            path: path, attributes: last.attributes,
            text: isPlain ? String(decoding: bytes[place], as: UTF8.self) : "", textPlace: place)
    }

    private mutating func begin() throws(ParsingError) {
        position += 1
        let name = word()
        guard !name.isEmpty, open.count < Self.deepest, !(open.isEmpty && hasRoot) else { throw unexpected }
        hasRoot = true
        var attributes: [String: String] = [:]
        while true {
            skipSpace()
            guard position < bytes.count else { throw unexpected }
            if bytes[position] == UInt8(ascii: ">") {
                position += 1
                open.append((name, attributes, position))
                return
            }
            let key = word()
            guard !key.isEmpty, holds("=\"") || holds("='") else { throw unexpected }
            let quote = bytes[position + 1]
            let start = position + 2
            guard let end = bytes[start...].firstIndex(of: quote) else { throw unexpected }
            attributes[key] = String(decoding: bytes[start..<end], as: UTF8.self)
            position = end + 1
        }
    }

    private mutating func word() -> String {
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                position += 1
            default: return String(decoding: bytes[start..<position], as: UTF8.self)
            }
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private mutating func skipSpace() {
        while position < bytes.count, Self.isSpace(bytes[position]) { position += 1 }
    }
}
