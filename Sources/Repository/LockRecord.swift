// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem

/// The operation of a process on a repository.
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

    /// Whether only one such operation at a time is allowed. All others may run concurrently, also with one of these;
    /// RepositoryFormat.md has the table.
    package var isMaintenance: Bool { self == .prune || self == .merge || self == .repair }

    /// Whether it relies on contents that existed when it began: prune keeps packs it marked until such operations from
    /// before the mark have ended.
    package var reliesOnContents: Bool { [.capture, .copy, .restore, .verify].contains(self) }
}

/// The file of a lock, `locks/UUID.json`, which identifies its holder. The holder keeps updating its modification time.
package struct LockRecord: Codable, Equatable, Sendable {
    /// The format tag.
    package var format: String
    /// The name of the lock.
    package var uuid: GUID
    /// The operation (`RepositoryOperation`, or one of a newer version).
    package var operation: String
    /// The process that holds the lock.
    package var holder: ProcessFacts
    /// Its start by the store's clock: RFC 3339 in UTC.
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

    /// Whether no other maintenance may run beside it. True for unknown operations.
    package var isMaintenance: Bool { RepositoryOperation(rawValue: operation)?.isMaintenance ?? true }

    /// Whether it relies on contents that existed when it began. True for unknown operations.
    package var reliesOnContents: Bool { RepositoryOperation(rawValue: operation)?.reliesOnContents ?? true }

    /// A few words for messages.
    package var summary: String { "\(operation) by process \(holder.process) on \(holder.host), since \(started)" }

    /// The interval at which a holder renews its lock, in seconds.
    static let refreshSeconds = 60.0
    /// The silence after which a holder on another machine or in another namespace is watched, in seconds.
    static let longestSilence: Int64 = 30 * 60
    /// That silence for a holder in another boot of this machine. Clones of one image can share all their names, so the
    /// other boot alone does not prove that the holder is gone; three missed refreshes do.
    static let longestSilenceOfOtherBoot: Int64 = 3 * 60
    /// How long a watched lock must remain unchanged, in seconds: three missed refreshes.
    static let watchSeconds = 190.0

    /// Evidence that the holder is gone.
    enum Absence: Equatable {
        /// The holder is gone.
        case proven(String)
        /// The clocks say so, which may be a difference between two machines: the lock must be watched.
        case suspected(String)
    }

    /// Evidence that the holder is gone; `nil` if there is none.
    /// - Parameters:
    ///   - silence: the seconds since its holder was last seen, by file times; negative if clocks disagree; `nil` if
    ///     the store keeps no times.
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

    /// Evidence from the silence alone.
    static func absence(silence: Int64) -> String? {
        guard silence.magnitude > UInt64(longestSilence) else { return nil }
        return silence < 0 ? "left a time that is yet to come" : "was last seen \(silence / 60) minutes ago"
    }
}
