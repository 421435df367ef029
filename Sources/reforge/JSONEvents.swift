// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Writes events as JSON, one object a line. Progress is written twice a second at most, and dropped while the reader
/// is behind.
///
/// The last event is held back until the command has written its result, because it carries the exit code.
final class JSONEvents: EventSink {
    private struct State {
        var lastProgress = -Double.infinity
        /// Whether the reader is gone, or the last event was written.
        var isClosed = false
        /// The operation's own report of its end.
        var report: Report?
    }
    private let state = Monitor(State())
    private let output: FileDescriptor
    private let operation: String
    private let pending: PendingCalls

    init(_ output: FileDescriptor, _ operation: String) {
        self.output = output
        self.operation = operation
        pending = PendingCalls("the events", on: output)
        Process.tells(output)
    }

    func take(_ event: Event) {
        state.update { state in
            guard !state.isClosed else { return }
            switch event {
            case .finished(let report):
                state.report = report
                return
            case .progress:
                let now = SystemFacts.monotonicSeconds()
                guard now - state.lastProgress >= 0.5, hasRoom(seconds: 0) else { return }
                state.lastProgress = now
            case .phase: state.lastProgress = -.infinity
            case .planned, .step, .log, .notice: break
            }
            write(event, &state)
        }
    }

    /// - Parameters:
    ///   - message: the message of a failure, as printed for a person.
    ///   - diskState: the state of a restore's target, if the operation has not reported it.
    func end(_ status: ExitStatus, message: String?, diskState: DiskState?) {
        state.update { state in
            var report = state.report ?? Report(operation: operation, outcome: Outcome(status, diskState: diskState))
            report.outcome.status = status
            report.message = message ?? report.message
            write(.finished(report), &state)
            state.isClosed = true
        }
    }

    private func hasRoom(seconds: Double) -> Bool {
        Polling.wait(for: [.init(output, reading: false, writing: true)], seconds: seconds).first?.isWritable ?? false
    }

    /// A reader that is gone must not end the work; a blocked write is abandoned like any call that does not return.
    private func write(_ event: Event, _ state: inout State) {
        guard !state.isClosed, var rest = (try? JSONText.encode(event))?[...] else { return }
        rest.append(10)
        let outcome = pending.during(.write) { () -> Bool in
            while !rest.isEmpty {
                do { rest = rest.dropFirst(try rest.withUnsafeBytes { try output.write($0) }) } catch {
                    // The descriptor is non-blocking.
                    guard error as? Errno == .resourceTemporarilyUnavailable else { return false }
                    _ = hasRoom(seconds: 1)
                }
            }
            return true
        }
        if !outcome { state.isClosed = true }
    }
}
