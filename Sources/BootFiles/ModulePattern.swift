// SPDX-License-Identifier: GPL-3.0-or-later

/// A pattern of modules.alias, as fnmatch(3) matches it for modprobe: `*`, `?` and `[…]`.
struct ModulePattern: Equatable, Sendable {
    private let pattern: ArraySlice<UInt8>

    init(_ pattern: ArraySlice<UInt8>) { self.pattern = pattern }

    /// The plain bytes before the first special one.
    static func prefix(of pattern: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        pattern.prefix { $0 != UInt8(ascii: "*") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "[") }
    }

    /// - Parameter budget: the steps that are left; without any, nothing matches. Patterns are from a captured system,
    ///   and may be made to take long.
    func matches(_ text: [UInt8], budget: inout Int) -> Bool {
        var (place, position) = (pattern.startIndex, 0)
        // Where to go back to: the last `*`, and the text that it has taken.
        var star: (place: Int, position: Int)?
        while budget > 0 {
            budget -= 1
            if place < pattern.endIndex, pattern[place] == UInt8(ascii: "*") {
                star = (place + 1, position)
                place += 1
                continue
            }
            if position == text.count { return pattern[place...].allSatisfy { $0 == UInt8(ascii: "*") } }
            if place < pattern.endIndex, let next = step(place, text[position]) {
                place = next
                position += 1
                continue
            }
            guard let back = star else { return false }
            star = (back.place, back.position + 1)
            place = back.place
            position = back.position + 1
        }
        return false
    }

    /// The place after the element at `place`, if it matches the byte; `nil` if not.
    private func step(_ place: Int, _ byte: UInt8) -> Int? {
        switch pattern[place] {
        case UInt8(ascii: "?"): return place + 1
        case UInt8(ascii: "["):
            guard let end = pattern[place...].dropFirst(2).firstIndex(of: UInt8(ascii: "]")) else {
                return byte == pattern[place] ? place + 1 : nil
            }
            return Self.isIn(pattern[place + 1..<end], byte) ? end + 1 : nil
        default: return byte == pattern[place] ? place + 1 : nil
        }
    }

    /// Whether a set such as `0-9a` or `!x` holds the byte.
    private static func isIn(_ given: ArraySlice<UInt8>, _ byte: UInt8) -> Bool {
        let isNegated = given.first == UInt8(ascii: "!") || given.first == UInt8(ascii: "^")
        let set = isNegated ? given.dropFirst() : given
        var place = set.startIndex
        var isFound = false
        while place < set.endIndex {
            if place + 2 < set.endIndex, set[place + 1] == UInt8(ascii: "-") {
                if set[place] <= byte, byte <= set[place + 2] { isFound = true }
                place += 3
            } else {
                if set[place] == byte { isFound = true }
                place += 1
            }
        }
        return isFound != isNegated
    }
}
