// SPDX-License-Identifier: GPL-3.0-or-later

/// A file to be removed. Nothing happens if there is none.
package struct FileRemoval: Codable, Equatable, Sendable {
    package var file: TreePath
    /// The result, as a sentence.
    package var done: String

    package init(_ file: TreePath, done: String) {
        self.file = file
        self.done = done
    }
}
