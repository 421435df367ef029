// SPDX-License-Identifier: GPL-3.0-or-later

/// The names of folders by index, for messages that name an owner.
struct OwnerPaths {
    /// The limit of path components in a message.
    private static let mostParts = 16

    /// The root first.
    private var folders: [(name: String, parent: Int)] = [("", 0)]

    mutating func append(_ name: String, in parent: Int) { folders.append((name, parent)) }

    /// The path of an entry in a folder; without a name, that of the folder itself. The names come from the disk, so
    /// only their printable characters are shown.
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
