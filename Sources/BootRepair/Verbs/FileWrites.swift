// SPDX-License-Identifier: GPL-3.0-or-later

/// New files written together: all are made before the first is written; identical ones are not rewritten.
package struct FileWrites: Codable, Equatable, Sendable {
    /// The source of a file.
    package enum Content: Codable, Equatable, Sendable {
        /// These lines.
        case text(String)
        /// A file of the running machine.
        case ownFile(String)
        /// A file made by a program of the running machine.
        case built(BuiltFile)

        /// Whether it reads files of the installed system.
        var isInSystem: Bool {
            if case .built(let file) = self, case .system = file.inputs { true } else { false }
        }
    }

    /// One of the files.
    package struct File: Codable, Equatable, Sendable {
        /// Its path; missing parent folders are created.
        package var path: String
        package var content: Content

        package init(_ path: String, _ content: Content) {
            self.path = path
            self.content = content
        }
    }

    /// A description of the files, as the object of a sentence.
    package var name: String
    package var place: TreePlace
    package var files: [File]
    /// The result, as a sentence.
    package var done: String

    package init(_ name: String, in place: TreePlace, _ files: [File], done: String) {
        self.name = name
        self.place = place
        self.files = files
        self.done = done
    }
}
