// SPDX-License-Identifier: GPL-3.0-or-later

/// Files copied together: all are read before the first is written.
package struct FileCopies: Codable, Equatable, Sendable {
    /// One of the files.
    package struct Copy: Codable, Equatable, Sendable {
        package var from: TreePath
        /// The path of the copy; missing parent folders are created.
        package var to: String
        /// Whether the other files are useless without it.
        package var isRequired: Bool

        package init(from: TreePath, to: String, isRequired: Bool = true) {
            self.from = from
            self.to = to
            self.isRequired = isRequired
        }
    }

    /// A description of the files, as the object of a sentence.
    package var name: String
    /// The target location.
    package var place: TreePlace
    package var files: [Copy]
    /// The result, as a sentence.
    package var done: String

    package init(_ name: String, in place: TreePlace, _ files: [Copy], done: String) {
        self.name = name
        self.place = place
        self.files = files
        self.done = done
    }
}
