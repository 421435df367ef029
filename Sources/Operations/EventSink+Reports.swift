// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

extension EventSink {
    /// Runs an operation, and reports how it ended.
    /// - Parameter outcome: the outcome of a finished operation.
    func reporting<Value>(
        _ operation: String, outcome: (Value) -> Outcome, _ body: () throws -> Value
    ) throws -> Value {
        do {
            let value = try body()
            take(.finished(Report(operation: operation, outcome: outcome(value))))
            return value
        } catch {
            let failure = JobFailure(error)
            take(.finished(Report(operation: operation, outcome: Outcome(failure.status), message: failure.message)))
            throw error
        }
    }
}
