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
