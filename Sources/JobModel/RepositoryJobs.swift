// SPDX-License-Identifier: GPL-3.0-or-later

/// Make a repository.
public struct InitRepositoryJob: Codable, Equatable, Sendable {
    /// The folder, as it was written: `REPO` or `REPO@`.
    public var repository: String
    /// Whether everything in it is encrypted.
    public var encrypts = false
    /// The length of a chunk in bytes; `nil` for the usual one.
    public var chunkByteCount: Int?
    /// The repository that chunk size and id key are taken from.
    public var like: String?

    /// Names the folder.
    public init(repository: String) { self.repository = repository }
}

/// List the snapshots of a repository.
public struct SnapshotsJob: Codable, Equatable, Sendable {
    /// The repository.
    public var repository: String
    /// The host whose snapshots are listed; `nil` for all.
    public var host: String?
    /// The tag that those that are listed have; `nil` for all.
    public var tag: String?

    /// Names the repository.
    public init(repository: String) { self.repository = repository }
}

/// Compare two snapshots of one repository.
public struct DiffJob: Codable, Equatable, Sendable {
    /// The older one.
    public var from: String
    /// The newer one.
    public var to: String

    /// Names both.
    public init(from: String, to: String) {
        self.from = from
        self.to = to
    }
}

/// Remove snapshots by a retention policy. A snapshot stays if any count keeps it.
public struct ForgetJob: Codable, Equatable, Sendable {
    /// The repository.
    public var repository: String
    /// The newest so many are kept.
    public var keepsLast = 0
    /// The newest of each of so many days.
    public var keepsDaily = 0
    /// The newest of each of so many weeks.
    public var keepsWeekly = 0
    /// The newest of each of so many months.
    public var keepsMonthly = 0
    /// The newest of each of so many years.
    public var keepsYearly = 0
    /// The host whose snapshots are looked at; `nil` for all.
    public var host: String?
    /// The tag that those that are looked at have; `nil` for all.
    public var tag: String?
    /// Whether nothing is removed.
    public var dryRun = false

    /// What makes no sense in it; `nil` where all does.
    public var contradiction: String? {
        let counts = [keepsLast, keepsDaily, keepsWeekly, keepsMonthly, keepsYearly]
        guard counts.allSatisfy({ $0 >= 0 }) else { return "a number to keep cannot be negative" }
        return counts.contains { $0 > 0 } ? nil : "nothing says what to keep: give at least one --keep-… with a number"
    }

    /// Names the repository.
    public init(repository: String) { self.repository = repository }
}

/// Free the space of what no snapshot needs.
public struct PruneJob: Codable, Equatable, Sendable {
    /// The repository.
    public var repository: String
    /// How long what was marked stays, in seconds.
    public var grace: Double = 24 * 3600
    /// How many snapshots may be missing that were never forgotten; `nil` for none.
    public var confirmedMissing: Int?
    /// Whether nothing is changed.
    public var dryRun = false

    /// Names the repository.
    public init(repository: String) { self.repository = repository }
}
