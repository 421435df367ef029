// SPDX-License-Identifier: GPL-3.0-or-later

/// The last bytes of a log. A guest may write without end, and what it wrote last says most.
package struct LogTail: Sendable {
    private var kept: [UInt8] = []
    private let limit: Int

    /// - Parameter limit: the number of bytes that are kept.
    package init(limit: Int = 4 << 20) { self.limit = limit }

    package mutating func append(_ bytes: [UInt8]) {
        kept += bytes
        // Not at every call: each one moves all that is kept.
        if kept.count > 2 * limit { kept.removeFirst(kept.count - limit) }
    }

    package var bytes: [UInt8] { Array(kept.suffix(limit)) }
}
