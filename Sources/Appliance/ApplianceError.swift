// SPDX-License-Identifier: GPL-3.0-or-later
import Emulator
import LinuxSystem
import SystemPackage

package enum ApplianceError: Error, Sendable, CustomStringConvertible {
    /// There is no medium to boot.
    case noMedium(String)
    /// The machine did not start, or ended.
    case machine(String)
    /// The machine sent something that the protocol does not allow: it may have been taken over by what it read.
    case untrusted(String)
    /// A volume or a path that does not exist.
    case notFound(String)
    /// The volume cannot be read; the sentence says why, and what to do.
    case refused(String)
    /// Reading failed inside the machine.
    case failed(String)
    case emulator(EmulatorError)
    case system(SystemCallError)
    case cancelled

    package var description: String {
        switch self {
        case .noMedium(let text), .machine(let text), .notFound(let text), .refused(let text), .failed(let text): text
        case .untrusted(let what):
            "the appliance broke its protocol (\(what)): its answers are not used. A damaged or hostile filesystem can cause this"
        case .emulator(let error): "\(error)"
        case .system(let error): "\(error)"
        case .cancelled: "interrupted"
        }
    }
}
