// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageFiles
import JobModel
import LinuxSystem
import Operations
import Synchronization
import SystemPackage

/// Runs the body of a command. Signals request its end; a failure becomes a message, an exit code and, with `--json`,
/// an object. If a call does not return after a signal or the loss of a disk, the command ends without it.
enum CommandRun {
    private struct FailureReport: Encodable {
        var schema = 1
        var error: String
        var exitCode: Int32
        var diskState: String?
    }

    /// The state that a command leaves behind if it ends now.
    struct Leaving: Sendable {
        /// The description for a person.
        var sentences: @Sendable (ExitStatus) -> String?
        /// The state of a restore's target.
        var diskState: @Sendable () -> String? = { nil }
    }

    private static let leaving = Mutex<Leaving?>(nil)
    /// Whether the end of the command has been decided: by its body, or by giving up.
    private static let isDecided = Atomic(false)
    /// The event sink that receives the end of the command.
    private static let listener = Mutex<JSONEvents?>(nil)

    static func tells(_ sink: JSONEvents) { listener.withLock { $0 = sink } }
    static func leaves(_ value: Leaving) { leaving.withLock { $0 = value } }

    /// - Parameters:
    ///   - cancellation: requested by signals and lost disks, and checked by the body.
    ///   - diskState: the state in which a failed restore left its target.
    static func run(
        json: Bool, cancellation: Cancellation = Cancellation(), diskState: () -> String? = { nil },
        _ body: (Cancellation) throws -> ExitStatus
    ) throws {
        SignalHandlers.install(cancellation)
        PendingCalls.tellLosses(to: cancellation)
        defer { PendingCalls.endTelling(cancellation) }
        let watch = try? StallWatch(
            cancellation, say: { say($0) },
            giveUp: { giveUp(on: $0, isAtWork: $1, because: cancellation, json: json) })
        defer { watch?.stop() }
        do {
            let status = try body(cancellation)
            decide()
            end(status, nil, diskState())
            if status != .done { throw ExitCode(status.rawValue) }
        } catch let code as ExitCode {
            throw code
        } catch {
            decide()
            let failure = JobFailure(error, cancellation: cancellation).naming(cancellation)
            report(failure, json: json, diskState: diskState())
            end(failure.status, failure.message, diskState())
            throw ExitCode(failure.status.rawValue)
        }
    }

    private static func report(_ failure: JobFailure, json: Bool, diskState: String?) {
        Console.message("reforge: \(failure.message)")
        guard json else { return }
        let report = FailureReport(error: failure.message, exitCode: failure.status.rawValue, diskState: diskState)
        // A failed write is ignored: the failure that counts is already on standard error.
        try? Console.json(report)
    }

    private static func end(_ status: ExitStatus, _ message: String?, _ diskState: String?) {
        listener.withLock { $0 }?.end(status, message: message, diskState: diskState.flatMap(DiskState.init))
    }

    /// Only the body or `giveUp` ends the command. If `giveUp` came first, the body waits here for the process to end.
    private static func decide() {
        guard isDecided.exchange(true, ordering: .relaxed) else { return }
        while true { SystemFacts.sleep(seconds: 1) }
    }

    /// A message during the work; on a terminal it overwrites the progress line.
    private static func say(_ text: String) {
        if SystemFacts.isTerminal(.standardError) { Console.write("\r\u{1B}[K", to: .standardError) }
        Console.message(text)
    }

    /// Ends the process although a call does not return.
    /// - Parameter isAtWork: whether the disk answers, but needs too long.
    private static func giveUp(on call: String, isAtWork: Bool, because cancellation: Cancellation, json: Bool) {
        guard !isDecided.exchange(true, ordering: .relaxed) else { return }
        let leaving = leaving.withLock { $0 }
        var failure = JobFailure(
            cancellation.exitStatus,
            "\(cancellation.name): gave up on \(call), "
                + (isAtWork ? "whose disk is slow, and is still working on it" : "which does not answer"))
        if let sentences = leaving?.sentences(failure.status) { failure = failure.followed(by: sentences) }
        if isAtWork { failure = failure.followed(by: "Until the disk is done, it may be reported as in use.") }
        // Any of these calls may hang too.
        let isDone = Monitor(false)
        let reported = failure
        _ = try? WorkerThread {
            let diskState = leaving?.diskState()
            report(reported, json: json, diskState: diskState)
            end(reported.status, reported.message, diskState)
            UnfinishedFiles.remove()
            isDone.update { $0 = true }
        }
        for _ in 0..<20 where !isDone.update({ $0 }) { SystemFacts.sleep(seconds: 0.02) }
        Process.giveUp(failure.status.rawValue)
    }
}

extension JobFailure {
    /// Names the lost disk as the cause of a failed read or write.
    fileprivate func naming(_ cancellation: Cancellation) -> JobFailure {
        guard status == .ioError, cancellation.isLoss, !message.contains(cancellation.name) else { return self }
        return JobFailure(status, "\(cancellation.name): \(message)")
    }
}
