// SPDX-License-Identifier: GPL-3.0-or-later

/// Finds and replaces identifiers in the bytes of files: in any encoding that contains ASCII, so that nothing else of a
/// file changes.
package enum IdentifierText {
    /// A found identifier.
    private struct Place {
        let range: Range<Int>
        let change: IdentifierChange
    }

    /// The bytes with all old identifiers replaced; `nil` if there are none. The new text has the case of the old one:
    /// udev and mount compare volume ids of FAT with case.
    package static func replacing(_ changes: [IdentifierChange], in bytes: [UInt8]) -> [UInt8]? {
        let places = places(of: changes, in: bytes)
        guard !places.isEmpty else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var position = 0
        for place in places {
            result += bytes[position..<place.range.lowerBound]
            let found = bytes[place.range]
            if found.contains(where: isUpper) {
                result += place.change.new.uppercased().utf8
            } else if found.contains(where: isLower) {
                result += place.change.new.lowercased().utf8
            } else {
                result += place.change.new.utf8
            }
            position = place.range.upperBound
        }
        return result + bytes[position...]
    }

    /// The changes whose old identifier is in the bytes.
    package static func present(_ changes: [IdentifierChange], in bytes: [UInt8]) -> Set<IdentifierChange> {
        Set(places(of: changes, in: bytes).map(\.change))
    }

    /// The identifiers, in ascending order and without overlaps.
    private static func places(of changes: [IdentifierChange], in bytes: [UInt8]) -> [Place] {
        // By the first byte, so that most positions cost one look.
        var byStart = [[(text: [UInt8], change: IdentifierChange)]](repeating: [], count: 256)
        for change in changes {
            let text = Array(change.old.lowercased().utf8)
            guard let first = text.first else { continue }
            byStart[Int(first)].append((text, change))
        }
        var places: [Place] = []
        var position = 0
        while position < bytes.count {
            let candidates = byStart[Int(lower(bytes[position]))]
            let found = candidates.isEmpty ? nil : candidates.first { isWhole($0.text, in: bytes, at: position) }
            if let found {
                let end = position + found.text.count
                places.append(Place(range: position..<end, change: found.change))
                position = end
            } else {
                position += 1
            }
        }
        return places
    }

    /// Whether the text is there as a word. `luks-UUID` counts; the part of a longer UUID that looks like a volume id of
    /// FAT does not.
    private static func isWhole(_ text: [UInt8], in bytes: [UInt8], at start: Int) -> Bool {
        let end = start + text.count
        guard end <= bytes.count else { return false }
        for index in text.indices where lower(bytes[start + index]) != text[index] { return false }
        let isLong = text.count >= 32
        if start > 0, isWord(bytes[start - 1]) || !isLong && bytes[start - 1] == UInt8(ascii: "-") { return false }
        return end == bytes.count || !isWord(bytes[end]) && bytes[end] != UInt8(ascii: "-")
    }

    private static func lower(_ byte: UInt8) -> UInt8 { isUpper(byte) ? byte | 0x20 : byte }
    private static func isUpper(_ byte: UInt8) -> Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) }
    private static func isLower(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }
    private static func isWord(_ byte: UInt8) -> Bool {
        isUpper(byte) || isLower(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
