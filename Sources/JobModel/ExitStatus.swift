// SPDX-License-Identifier: GPL-3.0-or-later

/// The exit codes of all commands: stable for scripts (from sysexits.h if one fits).
public enum ExitStatus: Int32, Codable, Sendable, CaseIterable {
    /// Everything requested is done.
    case done = 0
    /// The arguments or settings make no sense.
    case usage = 64
    /// The image is damaged, or not one of Reforge's.
    case badImage = 65
    /// There is no such disk, image or snapshot.
    case notFound = 66
    /// The data is complete; growing or boot repair failed or is pending.
    case incomplete = 70
    /// The output cannot be created.
    case cannotCreate = 73
    /// Reading or writing failed.
    case ioError = 74
    /// Interrupted: the same command resumes.
    case interrupted = 75
    /// Refused for safety, or a wrong password.
    case refused = 77
    /// The settings match no or several disks or snapshots.
    case ambiguous = 78
}

/// The state in which a restore left its target.
public enum DiskState: String, Codable, Sendable, CaseIterable {
    /// Nothing was written.
    case untouched
    /// Partly written; it boots nothing.
    case partial
    /// All data is there.
    case complete
    /// All data that a damaged image still holds, or that a failing disk still gives, is there.
    case salvaged
}

/// How a job ended: its exit status, and the state of the disk.
public struct Outcome: Codable, Equatable, Sendable {
    /// The exit status of the command.
    public var status: ExitStatus
    /// The state of the target; `nil` for a job without a target.
    public var diskState: DiskState?

    /// Creates an outcome.
    public init(_ status: ExitStatus, diskState: DiskState? = nil) {
        self.status = status
        self.diskState = diskState
    }
}

/// The failure of a job: an exit status, and a message.
public struct JobFailure: Error, Codable, Equatable, Sendable, CustomStringConvertible {
    /// The exit status of the command.
    public var status: ExitStatus
    /// Sentences with the problem, its reason, and the next step for the user.
    public var message: String

    /// Creates a failure.
    public init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }

    /// The failure with more sentences after its message.
    public func followed(by sentences: String) -> JobFailure {
        var message = message
        while message.hasSuffix(".") { message.removeLast() }
        return JobFailure(status, "\(message). \(sentences)")
    }

    /// The message.
    public var description: String { message }
}
