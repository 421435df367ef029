// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The text of an /etc/fstab: parsed, and rewritten without other changes.
package struct Fstab: Sendable {
    private let text: String
    /// The entries, not yet resolved.
    package let entries: [FstabEntry]

    /// Parses the text. Lines with fewer than three fields are skipped.
    package init(_ text: String) {
        self.text = text
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        entries = lines.enumerated().compactMap { index, line in
            let fields = line.split(whereSeparator: WordChange.isBlank).map(String.init)
            guard fields.count >= 3, !fields[0].hasPrefix("#") else { return nil }
            return FstabEntry(
                line: index, device: fields[0], mountPoint: MountEntry.unescape(fields[1]), type: fields[2],
                options: fields.count > 3 ? fields[3].split(separator: ",").map(String.init) : [])
        }
    }

    /// The text with these first fields replaced.
    package func replacing(_ changes: [FstabChange]) -> String {
        WordChange.apply(changes.map(\.word), to: text)
    }
}
