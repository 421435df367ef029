// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// The rows of a table, and rows added to it at run time.
///
/// Reforge's own rows are in the table itself; programs that link Reforge and tests add rows.
package final class Registry<Row: Sendable>: Sendable {
    private let all: Mutex<[Row]>

    package init(_ rows: [Row]) { all = Mutex(rows) }

    /// All rows, the table's own first.
    package var rows: [Row] { all.withLock { $0 } }

    /// Appends a row.
    package func register(_ row: Row) { all.withLock { $0.append(row) } }
}
