// SPDX-License-Identifier: GPL-3.0-or-later

/// Creates a repository.
public struct InitRepositoryJob: Codable, Equatable, Sendable {
    /// The folder as given by the user: `REPO` or `REPO@`.
    public var repository: String
    /// Whether the repository is encrypted.
    public var encrypts = false
    /// The length of a chunk in bytes; `nil` for the default.
    public var chunkByteCount: Int?
    /// The repository from which chunk size and id key are taken.
    public var like: String?

    /// Creates a job for a folder.
    public init(repository: String) { self.repository = repository }
}

/// Lists the snapshots of a repository.
public struct SnapshotsJob: Codable, Equatable, Sendable {
    /// The repository, or the snapshot whose proof is saved.
    public var repository: String
    /// The host of the listed snapshots; `nil` for all.
    public var host: String?
    /// The tag of the listed snapshots; `nil` for all.
    public var tag: String?

    /// Creates a job for a repository.
    public init(repository: String) { self.repository = repository }
}

/// Compares two snapshots of one repository.
public struct DiffJob: Codable, Equatable, Sendable {
    /// The older snapshot.
    public var from: String
    /// The newer snapshot.
    public var to: String

    /// Creates a job for two snapshots.
    public init(from: String, to: String) {
        self.from = from
        self.to = to
    }
}

/// Removes snapshots by a retention policy. A snapshot is kept if any count keeps it.
public struct ForgetJob: Codable, Equatable, Sendable {
    /// The repository.
    public var repository: String
    /// The number of newest snapshots to keep.
    public var keepsLast = 0
    /// The number of days of which the newest snapshot is kept.
    public var keepsDaily = 0
    /// The number of weeks of which the newest snapshot is kept.
    public var keepsWeekly = 0
    /// The number of months of which the newest snapshot is kept.
    public var keepsMonthly = 0
    /// The number of years of which the newest snapshot is kept.
    public var keepsYearly = 0
    /// The host whose snapshots the policy applies to; `nil` for all.
    public var host: String?
    /// The tag of the snapshots that the policy applies to; `nil` for all.
    public var tag: String?
    /// Whether nothing is removed.
    public var dryRun = false

    /// Why the options are invalid; `nil` if they are valid.
    public var contradiction: String? {
        let counts = [keepsLast, keepsDaily, keepsWeekly, keepsMonthly, keepsYearly]
        guard counts.allSatisfy({ $0 >= 0 }) else { return "a number to keep cannot be negative" }
        return counts.contains { $0 > 0 } ? nil : "nothing says what to keep: give at least one --keep-… with a number"
    }

    /// Creates a job for a repository.
    public init(repository: String) { self.repository = repository }
}

/// Frees the space of data that no snapshot needs.
public struct PruneJob: Codable, Equatable, Sendable {
    /// The repository.
    public var repository: String
    /// The least age of a mark before its data is deleted, in seconds.
    public var grace: Double = 24 * 3600
    /// The confirmed number of missing snapshots that were never forgotten; `nil` for none.
    public var confirmedMissing: Int?
    /// Whether nothing is changed.
    public var dryRun = false

    /// Creates a job for a repository.
    public init(repository: String) { self.repository = repository }
}
