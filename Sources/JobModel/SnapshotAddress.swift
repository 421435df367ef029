// SPDX-License-Identifier: GPL-3.0-or-later

/// A snapshot of a repository as given by the user: `REPO@ID`, `REPO@latest`, `REPO@HOST/latest`,
/// `REPO@HOST/DISK/latest`, a time in place of `latest`, or the repository itself: `REPO@`.
public struct SnapshotAddress: Hashable, Sendable {
    /// The choice among a repository's snapshots.
    public enum Choice: Hashable, Sendable {
        /// None: the repository as a whole.
        case repository
        /// The one whose id starts with these digits.
        case id(prefix: String)
        /// The newest one of a disk.
        case latest
        /// The newest one of a disk that was begun at or before this time.
        case time(String)
    }

    /// The repository's folder, or its address in a store: the text before the "@".
    public var repository: String
    /// The machine, if named.
    public var host: String?
    /// The disk, if named.
    public var disk: String?
    /// The chosen snapshot.
    public var choice: Choice
    /// The original text, for messages.
    public var text: String
    /// The text after the "@".
    let behindMark: String

    /// The fewest digits that count as the beginning of an id.
    static let shortestPrefix = 4
    /// The number of digits of an id.
    static let longestPrefix = 64
    /// The forms of the text after the "@", for messages.
    public static let forms =
        "an id's first \(shortestPrefix) or more digits, latest, HOST/latest, HOST/DISK/latest, or a time such as "
        + "2026-11-22T15:00 (local, unless it ends in Z or an offset) in place of latest"

    /// Parses the text after the "@"; `nil` if it has none of the forms.
    init?(_ repository: String, behindMark tail: Substring, _ text: String, isTime: (String) -> Bool) {
        // Without trailing slashes, because paths are compared.
        var folder = repository
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        self.repository = folder
        self.text = text
        behindMark = String(tail)
        guard !tail.isEmpty else {
            choice = .repository
            return
        }
        let parts = tail.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 3, let last = parts.last, !parts.contains(where: \.isEmpty) else { return nil }
        if parts.count > 1 { host = String(parts[0]) }
        if parts.count > 2 { disk = String(parts[1]) }
        if last == "latest" {
            choice = .latest
        } else if isTime(String(last)) {
            choice = .time(String(last))
        } else if parts.count == 1, last.utf8.count <= Self.longestPrefix, last.utf8.count >= Self.shortestPrefix,
            last.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
        {
            choice = .id(prefix: last.lowercased())
        } else {
            return nil
        }
    }
}
