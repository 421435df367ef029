// SPDX-License-Identifier: GPL-3.0-or-later

/// A program of the installed system that runs confined in it.
package struct ToolRun: Codable, Equatable, Sendable {
    /// What a failure comes to, unless another verb is done in its place.
    package enum Success: Codable, Equatable, Sendable {
        /// The system starts without it too; `remark` says why.
        case optional(remark: String)
        /// The system may not start without it; `consequence` says what is missing.
        case needed(consequence: String)
        /// It writes this file of the system, which its loader's row judges. The old file comes back where the new one is
        /// worse.
        case file(String)
    }

    /// The program's name and its arguments.
    package var command: [String]
    /// Whether it wants the EFI system partition mounted where the system has it.
    package var needsESP: Bool
    package var success: Success

    package init(_ command: [String], needsESP: Bool = false, success: Success) {
        self.command = command
        self.needsESP = needsESP
        self.success = success
    }
}
