// SPDX-License-Identifier: GPL-3.0-or-later

/// The replacement of a word in a line of text. Words are separated by blanks and tabs.
package struct WordChange: Codable, Equatable, Sendable {
    /// The line, from 0.
    package var line: Int
    /// The word in it, from 0.
    package var word: Int
    /// The expected old word; any other word is kept.
    package var from: String
    /// The new word.
    package var to: String

    package init(line: Int, word: Int = 0, from: String, to: String) {
        self.line = line
        self.word = word
        self.from = from
        self.to = to
    }

    static func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" }

    /// The text with these words replaced. Blanks after a longer word are removed, down to one, to preserve columns if
    /// possible.
    static func apply(_ changes: [WordChange], to text: String) -> String {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for change in changes where lines.indices.contains(change.line) {
            lines[change.line] = change.applied(to: lines[change.line])
        }
        return lines.joined(separator: "\n")
    }

    /// The bytes of a text with these words replaced, and the changes whose word is neither there nor replaced already.
    /// What is not UTF-8 is kept.
    static func apply(_ changes: [WordChange], to bytes: [UInt8]) -> (bytes: [UInt8], missed: [WordChange]) {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        var missed: [WordChange] = []
        for change in changes {
            guard lines.indices.contains(change.line), let line = change.applied(to: lines[change.line]) else {
                missed.append(change)
                continue
            }
            lines[change.line] = line
        }
        return (Array(lines.joined(separator: [UInt8(ascii: "\n")])), missed)
    }

    /// `nil` if another word is there.
    private func applied(to line: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var start = line.startIndex
        var end = start
        for _ in 0...max(word, 0) {
            start = line[end...].firstIndex { !isBlank($0) } ?? line.endIndex
            end = line[start...].firstIndex(where: isBlank) ?? line.endIndex
        }
        if line[start..<end].elementsEqual(to.utf8) { return line }
        guard line[start..<end].elementsEqual(from.utf8) else { return nil }
        var rest = line[end...]
        var excess = to.count - from.count
        while excess > 0, rest.starts(with: [UInt8(ascii: " "), UInt8(ascii: " ")]) {
            rest.removeFirst()
            excess -= 1
        }
        return line[..<start] + Array(to.utf8) + rest
    }

    private func applied(to line: Substring) -> Substring {
        var start = line.startIndex
        var end = start
        for _ in 0...max(word, 0) {
            start = line[end...].firstIndex { !Self.isBlank($0) } ?? line.endIndex
            end = line[start...].firstIndex { Self.isBlank($0) } ?? line.endIndex
        }
        guard line[start..<end] == from else { return line }
        var rest = line[end...]
        var excess = to.count - from.count
        while excess > 0, rest.hasPrefix("  ") {
            rest.removeFirst()
            excess -= 1
        }
        return line[..<start] + to[...] + rest
    }
}
