// SPDX-License-Identifier: GPL-3.0-or-later

/// Lines added at the end of a text file; those that it has already are not added.
package struct LineAddition: Codable, Equatable, Sendable {
    package var file: TreePath
    package var lines: [String]
    /// The result, as a sentence.
    package var done: String

    package init(_ file: TreePath, _ lines: [String], done: String) {
        self.file = file
        self.lines = lines
        self.done = done
    }

    /// The text with these lines. What is there need not be UTF-8, and is kept.
    func apply(to text: [UInt8]) -> [UInt8] {
        let newline = UInt8(ascii: "\n")
        let present = Set(text.split(separator: newline))
        let missing = lines.filter { !present.contains(Array($0.utf8)[...]) }
        guard !missing.isEmpty else { return text }
        let start = text.isEmpty || text.last == newline ? text : text + [newline]
        return start + missing.flatMap { Array($0.utf8) + [newline] }
    }
}
