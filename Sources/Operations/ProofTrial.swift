// SPDX-License-Identifier: GPL-3.0-or-later
import Emulator

/// One start of a machine that is watched: what it showed, and what follows from it.
struct ProofTrial {
    /// RFC 3339 in UTC.
    var started: String
    var verdict: BootVerdict?
    /// Why there is no verdict.
    var failure: (any Error)?
    /// Why the failure is one of KVM on this host; `nil` if it is not.
    var faultOfKVM: String?
    var seconds = 0.0
    var qemuVersion = "unknown"
    /// A PNG file.
    var screen: [UInt8]?
    var serialLog: [UInt8] = []
    /// The rows of text on the screen; `nil` for a picture.
    var rows: [String]?

    init(started: String) { self.started = started }

    /// The rows without the empty ones at the end.
    var screenText: [String]? {
        rows.map { rows in rows.last { !$0.isEmpty } == nil ? [] : Array(rows[...(rows.lastIndex { !$0.isEmpty } ?? 0)])
        }
    }
}
