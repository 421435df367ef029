// SPDX-License-Identifier: GPL-3.0-or-later

/// How a hook ended.
package struct HookResult: Codable, Equatable, Sendable {
    /// The name of its file.
    package var name: String
    /// `exit status 3`, `killed by signal 9`, or why it did not start.
    package var ending: String
    /// Its exit status; `nil` if it did not start or a signal ended it.
    package var exitStatus: Int32?
    /// The end of what it printed, standard error after standard output.
    package var output: String
    package var seconds: Double

    package init(name: String, ending: String, exitStatus: Int32? = nil, output: String = "", seconds: Double = 0) {
        self.name = name
        self.ending = ending
        self.exitStatus = exitStatus
        self.output = output
        self.seconds = seconds
    }

    package var succeeded: Bool { exitStatus == 0 }
}
