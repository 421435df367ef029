// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

/// A selector of one snapshot in a repository.
package struct SnapshotQuery: Equatable, Sendable {
    /// The way to choose a snapshot.
    package enum Choice: Equatable, Sendable {
        /// None: the repository as a whole.
        case repository
        /// The snapshot whose id has this prefix.
        case id(prefix: String)
        /// The newest snapshot of a disk.
        case latest
        /// The newest snapshot of a disk that began at or before this time, in seconds since 1970.
        case time(Int64)
    }

    /// The repository's name in messages.
    package var repository: String
    /// The machine, if named.
    package var host: String?
    /// The disk, if named.
    package var disk: String?
    /// The choice.
    package var choice: Choice
    /// The selector as typed, for messages.
    package var text: String
    /// The valid forms, for messages.
    package var forms: String

    package init(
        repository: String, host: String?, disk: String?, choice: Choice, text: String, forms: String
    ) {
        self.repository = repository
        self.host = host
        self.disk = disk
        self.choice = choice
        self.text = text
        self.forms = forms
    }

    /// The selected snapshot.
    /// - Throws: `ImageError.missing` if there is none, `ImageError.ambiguous` if there are several: `latest` and times
    ///   apply only to one disk of one host.
    package func resolve(in snapshots: [SnapshotInfo]) throws(ImageError) -> SnapshotInfo {
        guard !snapshots.isEmpty else { throw .missing("\(repository) holds no snapshots") }
        switch choice {
        case .repository:
            throw .missing("\(text) names the whole repository, not a snapshot; after the \"@\" write \(forms)")
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

    /// All snapshots of the one selected disk.
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

    /// A list, shortened for reading.
    private static func list(_ names: [String]) -> String {
        names.prefix(20).joined(separator: ", ") + (names.count > 20 ? " and \(names.count - 20) more" : "")
    }
}
