// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem

extension EventSink {
    /// Runs an operation and sends a report of its end.
    /// - Parameters:
    ///   - cancellation: the cancellation of the operation.
    ///   - outcome: the outcome for the report.
    func reporting<Value>(
        _ operation: String, _ cancellation: Cancellation, outcome: (Value) -> Outcome, _ body: () throws -> Value
    ) throws -> Value {
        do {
            let value = try body()
            take(.finished(Report(operation: operation, outcome: outcome(value))))
            return value
        } catch {
            let failure = JobFailure(error, cancellation: cancellation)
            take(.finished(Report(operation: operation, outcome: Outcome(failure.status), message: failure.message)))
            throw error
        }
    }
}
