// SPDX-License-Identifier: GPL-3.0-or-later

/// The names of folders by their index, for the sentence that names an owner.
struct OwnerPaths {
    /// More parts of a path than this are left out of a sentence.
    private static let mostParts = 16

    /// The root first.
    private var folders: [(name: String, parent: Int)] = [("", 0)]

    mutating func append(_ name: String, in parent: Int) { folders.append((name, parent)) }

    /// The path of something in a folder; without a name, that of the folder itself. Names are the disk's, so only printable
    /// characters of theirs are shown.
    func text(_ name: String? = nil, in folder: Int) -> String {
        var parts = name.map { [$0] } ?? []
        var place = folder
        while place > 0, place < folders.count, parts.count < Self.mostParts {
            parts.append(folders[place].name)
            place = folders[place].parent
        }
        if place > 0 { parts.append("…") }
        let path = parts.reversed().joined(separator: "/")
        let shown = path.unicodeScalars.map { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate: "?"
            default: String(scalar)
            }
        }
        return shown.isEmpty ? "/" : shown.joined()
    }
}
