// SPDX-License-Identifier: GPL-3.0-or-later

/// Writes the fields of a message: numbers in little endian, byte strings with their length before them.
struct AgentBytes {
    private(set) var bytes: [UInt8] = []

    mutating func put(_ number: some FixedWidthInteger) {
        for shift in stride(from: 0, to: number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    mutating func raw(_ more: [UInt8]) { bytes += more }

    mutating func put(_ string: [UInt8]) {
        put(UInt32(clamping: string.count))
        bytes += string
    }

    /// The first bytes of a text: a longer one would be refused by `AgentBytesReader.text(limit:)`.
    mutating func put(_ text: String, limit: Int = AgentText.usualLimit) { put(Array(text.utf8.prefix(limit))) }
}

/// Reads the fields of a message from an untrusted peer.
struct AgentBytesReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var left: Int { bytes.count - position }

    mutating func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) throws(ApplianceError) -> Number
    {
        let count = Number.bitWidth / 8
        guard left >= count else { throw .untrusted("a message that ends early") }
        var value: Number = 0
        for index in 0..<count { value |= Number(truncatingIfNeeded: bytes[position + index]) << (index * 8) }
        position += count
        return value
    }

    mutating func raw(_ count: Int) throws(ApplianceError) -> [UInt8] {
        guard count >= 0, left >= count else { throw .untrusted("a message that ends early") }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    mutating func string(limit: Int = AgentFrame.largestPayload) throws(ApplianceError) -> [UInt8] {
        let count = Int(try number(UInt32.self))
        guard count <= limit else { throw .untrusted("a string of \(count) bytes") }
        return try raw(count)
    }

    /// A text for a person: without control characters, which could move a terminal's cursor.
    mutating func text(limit: Int = AgentText.usualLimit) throws(ApplianceError) -> String {
        AgentText.shown(try string(limit: limit))
    }

    mutating func end() throws(ApplianceError) {
        guard left == 0 else { throw .untrusted("a message with \(left) bytes too many") }
    }
}

package enum AgentText {
    static let usualLimit = 4096

    /// A name from an image for a terminal: control characters, backslashes and bytes that are no UTF-8 become `\xNN`.
    package static func shown(_ bytes: [UInt8]) -> String {
        var result = ""
        var rest = bytes[...]
        while let first = rest.first {
            let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
            let part = rest.prefix(length)
            if let text = String(validating: part, as: UTF8.self), let scalar = text.unicodeScalars.first,
                text.unicodeScalars.count == 1, isShown(scalar)
            {
                result += text
                rest = rest.dropFirst(length)
            } else {
                result += "\\x" + (first < 16 ? "0" : "") + String(first, radix: 16)
                rest = rest.dropFirst()
            }
        }
        return result
    }

    /// Control characters, and those that change the direction of a line (Trojan Source), are not shown.
    private static func isShown(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x5C, 0x7F..<0xA0, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: false
        default: true
        }
    }
}
