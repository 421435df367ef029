// SPDX-License-Identifier: GPL-3.0-or-later

/// A 128-bit identifier in the mixed-endian byte order of GPT (UEFI 2.10, appendix A): the first three fields are
/// little-endian. A filesystem UUID is big-endian throughout: see `init(bigEndianBytes:)`.
package struct GUID: Hashable, Sendable, CustomStringConvertible, Codable {
    /// The 16 bytes in the order of the text form.
    package let textOrderBytes: [UInt8]

    /// The all-zero GUID: an unused GPT entry.
    package static let zero = GUID(unchecked: [UInt8](repeating: 0, count: 16))

    private init(unchecked bytes: [UInt8]) { textOrderBytes = bytes }

    /// From 16 bytes in the order of a GPT.
    /// - Throws: `ParsingError` for another count.
    package init(mixedEndianBytes bytes: [UInt8]) throws(ParsingError) {
        self.init(unchecked: try Self.swapped(bytes))
    }

    /// From 16 bytes in the order of a filesystem UUID (RFC 9562: text order).
    /// - Throws: `ParsingError` for another count.
    package init(bigEndianBytes bytes: [UInt8]) throws(ParsingError) {
        guard bytes.count == 16 else { throw .invalid(what: "a UUID of \(bytes.count) bytes") }
        self.init(unchecked: bytes)
    }

    /// From `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, either case; `nil` for other texts.
    package init?(_ text: some StringProtocol) {
        let groups = text.split(separator: "-", omittingEmptySubsequences: false)
        guard groups.map({ $0.utf8.count }) == [8, 4, 4, 4, 12] else { return nil }
        var bytes: [UInt8] = []
        var digits = groups.joined().utf8.makeIterator()
        while let high = digits.next(), let low = digits.next() {
            guard let high = Self.digit(high), let low = Self.digit(low) else { return nil }
            bytes.append(high << 4 | low)
        }
        guard bytes.count == 16 else { return nil }
        self.init(unchecked: bytes)
    }

    /// A random version-4 UUID (RFC 9562 §5.4).
    package static func random() -> GUID {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        return GUID(unchecked: bytes)
    }

    /// The bytes in the order of a GPT.
    package var mixedEndianBytes: [UInt8] {
        let b = textOrderBytes
        return [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]] + b[8...]
    }

    /// The usual text form, lower case.
    package var description: String {
        var text = ""
        for (index, byte) in textOrderBytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text += byte < 16 ? "0" + String(byte, radix: 16) : String(byte, radix: 16)
        }
        return text
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let guid = GUID(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a GUID")
        }
        self = guid
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    private static func swapped(_ b: [UInt8]) throws(ParsingError) -> [UInt8] {
        guard b.count == 16 else { throw .invalid(what: "a GUID of \(b.count) bytes") }
        return [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]] + b[8...]
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
