// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// Which snapshot of which repository a person means: `REPO@ID-PREFIX`, `REPO@latest`, `REPO@HOST/latest`,
/// `REPO@HOST/DISK/latest`, `REPO@TIME`, `REPO@HOST/TIME`, `REPO@HOST/DISK/TIME`; `REPO@` is the repository itself.
package struct SnapshotSelector: Equatable, Sendable {
    /// Which one of those that remain.
    package enum Choice: Equatable, Sendable {
        /// None: the repository itself.
        case repository
        /// The one whose id begins with these (lower case) hexadecimal digits.
        case id(prefix: String)
        /// The newest.
        case latest
        /// The newest that began at or before this moment, in seconds since 1970 in UTC.
        case time(Int64)
    }
    /// What a path is.
    package enum Place: Sendable {
        /// Nothing that exists.
        case nothing
        /// A file, a device.
        case file
        /// A folder that is no repository.
        case folder
        /// A repository.
        case repository

        /// Looks. What cannot be looked at counts as nothing.
        package static func of(_ path: FilePath) -> Place {
            guard let status = (try? Files.status(path)) ?? nil else { return .nothing }
            return !status.isFolder ? .file : LocalStore.isRepository(path) ? .repository : .folder
        }
    }
    /// The folder.
    package var repository: FilePath
    /// The machine, where one is named.
    package var host: String?
    /// The disk, where one is named.
    package var disk: String?
    /// Which one.
    package var choice: Choice
    /// As it was written, for messages.
    package var text: String

    /// The fewest digits of an id that are taken for one.
    static let shortestPrefix = 4
    /// What can stand behind the "@".
    package static let forms =
        "an id's first \(shortestPrefix) or more digits, latest, HOST/latest, HOST/DISK/latest, or a time such as "
        + "2026-11-22T15:00 (local, unless it ends in Z or an offset) in place of latest"

    /// Reads `REPO@…`. A file or folder that has all of the text as its name is meant as such. Else the "@" that counts is the last
    /// one with a folder before it, as folders and hosts may have one in their names.
    /// - Parameter lookUp: what a path is; the default looks.
    /// - Returns: `nil` where this is no such text: the path of an image, say.
    /// - Throws: `ImageError.missing` where a repository stands before the "@" and nothing sensible behind it.
    package static func parse(
        _ text: String, lookUp: (FilePath) -> Place = Place.of
    ) throws(ImageError) -> SnapshotSelector? {
        guard lookUp(FilePath(text)) == .nothing else { return nil }
        return try split(text, lookUp)
    }

    /// The snapshot that a text names as well, where a file or folder has that name; for a notice, as `parse` takes the file.
    package static func hidden(by text: String, lookUp: (FilePath) -> Place = Place.of) -> SnapshotSelector? {
        guard lookUp(FilePath(text)) != .nothing, let selector = try? split(text, lookUp),
            lookUp(selector.repository) == .repository
        else { return nil }
        return selector
    }

    private static func split(_ text: String, _ lookUp: (FilePath) -> Place) throws(ImageError) -> SnapshotSelector? {
        let marks = text.indices.filter { text[$0] == "@" && $0 != text.startIndex }
        for mark in marks.reversed() {
            let folder = FilePath(String(text[..<mark]))
            let place = lookUp(folder)
            guard place == .folder || place == .repository else { continue }
            if let selector = SnapshotSelector(folder, behindMark: text[text.index(after: mark)...], text) {
                return selector
            }
            // A folder that is no repository may well have a namesake: an image that is to be made.
            guard place == .repository else { continue }
            throw .missing(
                "\(text): \"\(text[text.index(after: mark)...])\" names no snapshot; behind the \"@\" stands \(forms)")
        }
        // No such folder. What looks like a snapshot in spite of it deserves an error about the repository.
        guard let mark = marks.last else { return nil }
        return SnapshotSelector(FilePath(String(text[..<mark])), behindMark: text[text.index(after: mark)...], text)
    }

    private init?(_ repository: FilePath, behindMark tail: Substring, _ text: String) {
        self.repository = repository
        self.text = text
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
        } else if let time = TimeText(last) {
            // A date is the whole day: the newest of that day, if there is one.
            choice = .time(
                time.isDate
                    ? TimeText("\(last)T23:59:59")?.unixSeconds ?? time.unixSeconds : time.unixSeconds)
        } else if parts.count == 1, last.utf8.count <= 2 * ContentHash.byteCount,
            last.utf8.count >= Self.shortestPrefix, last.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
        {
            choice = .id(prefix: last.lowercased())
        } else {
            return nil
        }
    }

    /// The snapshot that is meant.
    /// - Throws: `ImageError.missing` where there is none, `ImageError.ambiguous` where there are several: `latest` and
    ///   times mean something only for one disk of one host.
    package func resolve(in snapshots: [SnapshotInfo]) throws(ImageError) -> SnapshotInfo {
        guard !snapshots.isEmpty else { throw .missing("\(repository) holds no snapshots") }
        switch choice {
        case .repository:
            throw .missing("\(text) names no snapshot, but the whole repository; behind the \"@\" stands \(Self.forms)")
        case .id(let prefix):
            let matches = snapshots.filter { $0.id.description.hasPrefix(prefix) }
            guard let first = matches.first else { throw .missing("\(repository) has no snapshot \(prefix)…") }
            guard matches.allSatisfy({ $0.id == first.id }) else {
                throw .ambiguous(
                    "\(text) could be any of "
                        + Self.list(matches.sorted(by: SnapshotInfo.isOlder).map(\.summary)) + "; give more digits")
            }
            return first
        case .latest:
            guard let newest = try candidates(snapshots).max(by: SnapshotInfo.isOlder) else {
                throw .missing("\(repository) holds no such snapshot")
            }
            return newest
        case .time(let moment):
            let candidates = try candidates(snapshots)
            let earlier = candidates.filter { ($0.startedSeconds ?? .max) <= moment }
            if let newest = earlier.max(by: SnapshotInfo.isOlder) { return newest }
            let oldest = candidates.min(by: SnapshotInfo.isOlder)?.started ?? "-"
            throw .missing(
                "\(text): no snapshot began at or before \(SystemFacts.utcText(moment)); the oldest began at \(oldest)")
        }
    }

    /// All snapshots of the one disk that is meant.
    private func candidates(_ snapshots: [SnapshotInfo]) throws(ImageError) -> [SnapshotInfo] {
        let word = if case .latest = choice { "latest" } else { "TIME" }
        func disks(_ of: [SnapshotInfo]) -> [String] { Set(of.map { "\($0.host)/\($0.disk)" }).sorted() }
        func forms(_ of: [SnapshotInfo]) -> String { Self.list(disks(of).map { "\(repository)@\($0)/\(word)" }) }
        let matches = snapshots.filter { (host ?? $0.host) == $0.host && (disk ?? $0.disk) == $0.disk }
        guard !matches.isEmpty else {
            throw .missing(
                "\(repository) has no snapshot of \(host ?? "")\(disk.map { "/\($0)" } ?? ""); it has "
                    + forms(snapshots))
        }
        guard disks(matches).count == 1 else {
            let hosts = Set(matches.map(\.host)).count
            throw .ambiguous(
                "\(text) is not clear: \(hosts == 1 ? "" : "\(hosts) hosts and ")\(disks(matches).count) disks match; "
                    + "say which one: \(forms(matches))")
        }
        return matches
    }

    /// As a list of a length that a person reads.
    private static func list(_ names: [String]) -> String {
        names.prefix(20).joined(separator: ", ") + (names.count > 20 ? " and \(names.count - 20) more" : "")
    }
}
