// SPDX-License-Identifier: GPL-3.0-or-later

/// Replacements of words in a text file that still have their expected text.
package struct FileEdit: Codable, Equatable, Sendable {
    package var file: TreePath
    package var changes: [WordChange]
    /// The result, as a sentence.
    package var done: String

    package init(_ file: TreePath, _ changes: [WordChange], done: String) {
        self.file = file
        self.changes = changes
        self.done = done
    }
}
