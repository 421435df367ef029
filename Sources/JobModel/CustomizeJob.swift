// SPDX-License-Identifier: GPL-3.0-or-later

/// Gives the system on a disk a new identity, and runs hooks in it.
public struct CustomizeJob: Codable, Equatable, Sendable {
    /// The disk: a block device or a raw image file.
    public var disk: String
    /// The parts of its identity that are renewed, as `--new-identity` takes them; empty for the standard ones, `nil`
    /// for none.
    public var newIdentity: String?
    /// The files of programs that run in the system at the end, in order.
    public var hooks: [String] = []
    /// The files with the keys of LUKS volumes: a system inside of one is found with its key alone.
    public var luksKeyFiles: [String] = []
    /// Whether only the plan is made.
    public var dryRun = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?

    /// Creates a job for a disk.
    public init(disk: String) { self.disk = disk }
}
