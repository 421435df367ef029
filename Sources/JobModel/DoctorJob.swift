// SPDX-License-Identifier: GPL-3.0-or-later

/// Judges whether a disk starts on a machine. Reads only.
public struct DoctorJob: Codable, Equatable, Sendable {
    /// The machine that a disk is judged for.
    public enum Machine: Codable, Equatable, Sendable {
        /// The machine that runs this.
        case this
        /// The machine of a file that `reforge machine` wrote.
        case record(String)
    }

    /// The disk, image or snapshot, as given by the user.
    public var disk: String
    /// The machine; `nil` for this one if it is a block device, else for any.
    public var machine: Machine?
    /// The machine that reads images.
    public var appliance = ApplianceChoice()
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for a disk, an image or a snapshot.
    public init(disk: String) { self.disk = disk }
}
