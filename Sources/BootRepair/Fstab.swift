// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The text of an /etc/fstab: parsed, and rewritten with everything else left as it stands.
package struct Fstab: Sendable {
    private let lines: [Substring]
    /// The entries, not yet resolved.
    package let entries: [FstabEntry]

    /// Parses the text. Lines with less than three fields are passed over.
    package init(_ text: String) {
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        entries = lines.enumerated().compactMap { index, line in
            let fields = line.split(whereSeparator: Self.isBlank).map(String.init)
            guard fields.count >= 3, !fields[0].hasPrefix("#") else { return nil }
            return FstabEntry(
                line: index, device: fields[0], mountPoint: MountEntry.unescape(fields[1]), type: fields[2],
                options: fields.count > 3 ? fields[3].split(separator: ",").map(String.init) : [])
        }
    }

    /// The text with these first fields replaced. Blanks behind a longer name give way, down to one, so that the
    /// columns stay where they can.
    package func replacing(_ changes: [FstabChange]) -> String {
        var lines = self.lines
        for change in changes where lines.indices.contains(change.line) {
            let line = lines[change.line]
            let indent = line.prefix(while: Self.isBlank)
            let field = line.dropFirst(indent.count).prefix { !Self.isBlank($0) }
            guard field == change.from else { continue }
            var rest = line.dropFirst(indent.count + field.count)
            var excess = change.to.count - field.count
            while excess > 0, rest.hasPrefix("  ") {
                rest.removeFirst()
                excess -= 1
            }
            lines[change.line] = indent + change.to[...] + rest
        }
        return lines.joined(separator: "\n")
    }

    private static func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" }
}
