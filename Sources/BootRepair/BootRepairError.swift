// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// The reason boot repair could not run at all. None of these affects the captured data on the disk.
package enum BootRepairError: Error, Sendable, CustomStringConvertible {
    /// The disk could not be read or written.
    case inputOutput(BlockIOError)
    /// A call to the system failed.
    case system(SystemCallError)
    /// The disk is in use: the uses, as sentence parts.
    case inUse([String])
    /// The disk is not the one of the plan.
    case diskChanged(String)
    /// The partition of that number holds the image of a hibernated system.
    case hibernated(Int)

    /// Why nothing is written to the disk of a hibernated system.
    static func hibernation(_ partition: Int) -> String {
        "partition \(partition) holds the image of a hibernated system, which would write over every change when it "
            + "resumes: start it once and shut it down, or give its session up with `mkswap`"
    }

    /// The error and the state of the disk.
    package var description: String {
        switch self {
        case .inputOutput(let error): "\(error). Boot repair is not finished; it can be run again"
        case .system(let error): "\(error). Boot repair is not finished; it can be run again"
        case .inUse(let uses):
            "the disk is in use: \(uses.joined(separator: ", ")). Nothing was changed; unmount it and run boot repair again"
        case .diskChanged(let difference):
            "this is not the disk of the plan (\(difference)). Nothing was changed"
        case .hibernated(let partition): "\(Self.hibernation(partition)). Nothing was changed"
        }
    }
}
