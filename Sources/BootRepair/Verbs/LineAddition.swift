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

    /// The text with these lines.
    func apply(to text: String) -> String {
        let present = Set(text.split(separator: "\n"))
        let missing = lines.filter { !present.contains($0[...]) }
        guard !missing.isEmpty else { return text }
        let start = text.isEmpty || text.hasSuffix("\n") ? text : text + "\n"
        return start + missing.map { $0 + "\n" }.joined()
    }
}
