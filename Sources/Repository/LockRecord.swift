// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem

/// What a process does to a repository.
package enum RepositoryOperation: String, Codable, Sendable, CaseIterable {
    /// Stores a snapshot of a disk.
    case capture
    /// Stores a snapshot that is read elsewhere.
    case copy
    /// Reads a snapshot.
    case restore
    /// Reads everything.
    case verify
    /// Removes snapshots.
    case forget
    /// Changes keys.
    case key
    /// Marks and removes packs.
    case prune
    /// Makes one index of several.
    case merge
    /// Takes damaged contents out of the index.
    case repair

    /// Whether only one such operation at a time is allowed. Everything else is allowed together, and beside one of
    /// these; RepositoryFormat.md has the table.
    package var isMaintenance: Bool { self == .prune || self == .merge || self == .repair }

    /// Whether it relies on contents that were there when it began: prune keeps what it marked for as long as such an
    /// operation from before the mark goes on.
    package var reliesOnContents: Bool { [.capture, .copy, .restore, .verify].contains(self) }
}

/// The file of a lock, `locks/UUID.json`: who holds it. Its modification time changes as long as its holder is there.
package struct LockRecord: Codable, Equatable, Sendable {
    /// What it is.
    package var format: String
    /// Its name.
    package var uuid: GUID
    /// What is being done (`RepositoryOperation`, or what a newer version has).
    package var operation: String
    /// By whom.
    package var holder: ProcessFacts
    /// Since when, by the store's clock: RFC 3339 in UTC.
    package var started: String

    static let format = "reforge lock 1"

    /// A lock of this process.
    init(_ operation: RepositoryOperation) {
        format = Self.format
        uuid = .random()
        self.operation = operation.rawValue
        holder = .own()
        started = SystemFacts.utcText(SystemFacts.unixSeconds())
    }

    /// Whether no other maintenance may run beside it: also where its operation is not known.
    package var isMaintenance: Bool { RepositoryOperation(rawValue: operation)?.isMaintenance ?? true }

    /// Whether it relies on contents that were there when it began: also where its operation is not known.
    package var reliesOnContents: Bool { RepositoryOperation(rawValue: operation)?.reliesOnContents ?? true }

    /// A few words for messages.
    package var summary: String { "\(operation) by process \(holder.process) on \(holder.host), since \(started)" }

    /// How often a holder says that it is there, in seconds.
    static let refreshSeconds = 60.0
    /// How long a holder that cannot be asked may be silent before it is watched, in seconds.
    static let longestSilence: Int64 = 30 * 60
    /// The same for a holder in another boot of this very machine. Clones of one image can share all their names, so the
    /// other boot alone does not prove that the holder is gone; three missed refreshes do.
    static let longestSilenceOfOtherBoot: Int64 = 3 * 60
    /// How long a lock must not change while this process watches it, in seconds: three refreshes are missing then.
    static let watchSeconds = 190.0

    /// Why its holder may be gone.
    enum Absence: Equatable {
        /// It is.
        case proven(String)
        /// As far as clocks tell, and those of two machines may be the reason: only watching it tells.
        case suspected(String)
    }

    /// Why its holder may be gone; `nil` where nothing says so.
    /// - Parameters:
    ///   - silence: the seconds since its holder was last seen, by file times; below zero where clocks disagree; `nil` where the
    ///     store keeps no times.
    ///   - own: this process.
    func absence(silence: Int64?, seenBy own: ProcessFacts) -> Absence? {
        if let isAlive = holder.isAlive(seenBy: own) {
            return isAlive ? nil : .proven("process \(holder.process) has ended")
        }
        guard let silence else { return .suspected("its store keeps no times") }
        if holder.isOtherBoot(ofHostOf: own), silence.magnitude > UInt64(Self.longestSilenceOfOtherBoot) {
            return .suspected("\(holder.host) was restarted since")
        }
        return Self.absence(silence: silence).map { .suspected("its holder \($0)") }
    }

    /// What a silence alone says.
    static func absence(silence: Int64) -> String? {
        guard silence.magnitude > UInt64(longestSilence) else { return nil }
        return silence < 0 ? "left a time that is yet to come" : "was last seen \(silence / 60) minutes ago"
    }
}
