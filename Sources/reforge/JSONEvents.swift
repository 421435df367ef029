// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Writes events as JSON, one object a line. How far a part is comes twice a second at most, and not where the reader is behind.
///
/// The last event is held back until the command has written its result: it has the exit code.
final class JSONEvents: EventSink {
    private struct State {
        var lastProgress = -Double.infinity
        /// Nobody reads any more, or the last event was written.
        var isClosed = false
        /// What the operation said of its end.
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

    /// Writes the last event.
    /// - Parameters:
    ///   - message: what a person was told of a failure.
    ///   - diskState: what is on a restore's target, where its operation has not said so.
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

    /// A reader that went away must not end the work; one that does not read is given up as any call that does not return.
    private func write(_ event: Event, _ state: inout State) {
        guard !state.isClosed, var rest = (try? JSONText.encode(event))?[...] else { return }
        rest.append(10)
        let outcome = pending.during(.write) { () -> Bool in
            while !rest.isEmpty {
                do { rest = rest.dropFirst(try rest.withUnsafeBytes { try output.write($0) }) } catch {
                    // A descriptor that does not block.
                    guard error as? Errno == .resourceTemporarilyUnavailable else { return false }
                    _ = hasRoom(seconds: 1)
                }
            }
            return true
        }
        if !outcome { state.isClosed = true }
    }
}
