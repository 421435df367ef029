// SPDX-License-Identifier: GPL-3.0-or-later

/// Words of a text file that are replaced where they still stand.
package struct FileEdit: Codable, Equatable, Sendable {
    package var file: TreePath
    package var changes: [WordChange]
    /// What was done, as a sentence.
    package var done: String

    package init(_ file: TreePath, _ changes: [WordChange], done: String) {
        self.file = file
        self.changes = changes
        self.done = done
    }
}
