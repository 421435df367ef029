// SPDX-License-Identifier: GPL-3.0-or-later

/// Refuses what Codable ignores: members that a value does not have. A misspelled one would be left out silently.
enum StrictKeys {
    struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { return nil }
    }

    static func check<Key: CodingKey & CaseIterable>(_ decoder: any Decoder, _ known: Key.Type) throws {
        let names = Set(known.allCases.map(\.stringValue))
        let container = try decoder.container(keyedBy: Name.self)
        guard let other = container.allKeys.first(where: { !names.contains($0.stringValue) }) else { return }
        throw DecodingError.dataCorruptedError(
            forKey: other, in: container, debugDescription: "unknown member \(DoctorText.shown(other.stringValue))")
    }
}

/// Texts from outside, for a person.
enum DoctorText {
    /// The longest text in a record or a report, in bytes.
    static let longest = 4096

    /// Whether a text is short and has no characters that move a terminal's cursor, or change the direction of a line.
    static func isPlain(_ text: String, limit: Int = longest) -> Bool {
        text.utf8.count <= limit && text.unicodeScalars.allSatisfy(isPlain)
    }

    /// The text with `?` in place of other characters, cut to the limit.
    static func shown(_ text: String, limit: Int = 200) -> String {
        var shown = String.UnicodeScalarView()
        shown.append(contentsOf: text.unicodeScalars.prefix(limit).map { isPlain($0) ? $0 : "?" })
        return String(shown)
    }

    private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: false
        default: true
        }
    }
}
