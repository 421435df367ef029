// SPDX-License-Identifier: GPL-3.0-or-later

/// A program of the installed system, run confined in it.
package struct ToolRun: Codable, Equatable, Sendable {
    /// The consequence of a failure, unless another verb replaces it.
    package enum Success: Codable, Equatable, Sendable {
        /// The system starts without it too; `remark` says why.
        case optional(remark: String)
        /// The system may not start without it; `consequence` says what is missing.
        case needed(consequence: String)
        /// It writes this file of the system, which its loader's row judges. The old file is restored if the new one is
        /// worse.
        case file(String)
    }

    /// The program's name and its arguments.
    package var command: [String]
    /// Whether it needs the EFI system partition at its usual mount point.
    package var needsESP: Bool
    package var success: Success

    package init(_ command: [String], needsESP: Bool = false, success: Success) {
        self.command = command
        self.needsESP = needsESP
        self.success = success
    }
}
