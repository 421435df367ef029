// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// The rows of a table, and those that were added to it while the program runs.
///
/// What Reforge comes with stands in the table itself; a row is added by programs that link Reforge and by tests.
package final class Registry<Row: Sendable>: Sendable {
    private let all: Mutex<[Row]>

    /// Starts with the rows of a table.
    package init(_ rows: [Row]) { all = Mutex(rows) }

    /// All rows, the table's own first.
    package var rows: [Row] { all.withLock { $0 } }

    /// Adds a row behind all others.
    package func register(_ row: Row) { all.withLock { $0.append(row) } }
}
