// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Why boot repair could not be done at all. The captured data on the disk is not touched by any of these.
package enum BootRepairError: Error, Sendable, CustomStringConvertible {
    /// The disk could not be read or written.
    case inputOutput(BlockIOError)
    /// A call to the system failed.
    case system(SystemCallError)
    /// Something uses the disk: what, as sentence parts.
    case inUse([String])
    /// The disk is not the one that the plan was made for.
    case diskChanged(String)

    /// What happened, and what state the disk is in.
    package var description: String {
        switch self {
        case .inputOutput(let error): "\(error). Boot repair is not finished; it can be run again"
        case .system(let error): "\(error). Boot repair is not finished; it can be run again"
        case .inUse(let uses):
            "the disk is in use: \(uses.joined(separator: ", ")). Nothing was changed; unmount it and run boot repair again"
        case .diskChanged(let difference):
            "this is not the disk that the plan was made for (\(difference)). Nothing was changed"
        }
    }
}
