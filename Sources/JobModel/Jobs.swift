// SPDX-License-Identifier: GPL-3.0-or-later

/// Put an image or a snapshot onto a disk.
public struct RestoreJob: Codable, Equatable, Sendable {
    /// The image as it was written; `-` for standard input.
    public var image: String
    /// The target: a block device or a raw image file.
    public var disk: String
    /// How partitions are laid out: `keep`, `grow` or `proportional`.
    public var layout = "grow"
    /// What single partitions are to have, as `N=SIZE`.
    public var partitions: [String] = []
    /// The partition of the image that is restored alone.
    public var only: Int?
    /// The partition of the target that it goes into.
    public var into: Int?
    /// The folder for what does not fit while filesystems are made smaller.
    public var scratch: String?
    /// Whether only the plan is made.
    public var dryRun = false
    /// Whether the loss of what the target holds is confirmed.
    public var isConfirmed = false
    /// Whether everything is read back and compared.
    public var verifies = false
    /// Whether the whole image is checked before the first write.
    public var verifiesFirst = false
    /// Whether what is left of a damaged image is restored.
    public var salvages = false
    /// The code of the losses that are confirmed.
    public var confirmedLosses: String?
    /// Whether the target is trimmed first.
    public var discards = false
    /// Whether only chunks that differ are written.
    public var isDelta = false
    /// Whether the restored system is made to start; `nil` leaves that to the place where it runs.
    public var repairsBoot: Bool?
    /// Whether what nobody knows to work with sectors of another size is restored all the same.
    public var trustsUnknown = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The image's id, or the start of one.
    public var expectedImageID: String?
    /// The sequence number of the target's attachment.
    public var expectedDiskSequence: UInt64?
    /// The id that is noted on the restored disk.
    public var jobID: String?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []

    /// Names the two ends.
    public init(image: String, disk: String) {
        self.image = image
        self.disk = disk
    }
}

/// Make the system on a disk start on this machine.
public struct BootRepairJob: Codable, Equatable, Sendable {
    /// The disk: a block device or a raw image file.
    public var disk: String
    /// Whether only the plan is made.
    public var dryRun = false
    /// Whether the firmware's boot entries may be changed.
    public var changesNVRAM = true
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?

    /// Names the disk.
    public init(disk: String) { self.disk = disk }
}
