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

    /// What cannot be asked for together; `nil` where everything can.
    public var contradiction: String? {
        if isDelta, discards {
            return "--delta and --discard exclude each other: trimmed sectors hold nothing to compare with"
        }
        if only != nil, !partitions.isEmpty || discards {
            return "--only goes neither with --partition nor with --discard"
        }
        if confirmedLosses != nil, !salvages { return "--confirm-salvage goes with --salvage" }
        if salvages, verifiesFirst {
            return "--salvage reads the whole image first by itself: leave out --verify-first"
        }
        if only != nil, repairsBoot == true { return "--only leaves boot repair out" }
        if into != nil, only == nil { return "--into goes with --only" }
        if image == "-", verifiesFirst { return "--verify-first needs an image that can be read twice, not -" }
        if only != nil, jobID != nil { return "--only goes not with --job-id" }
        if let id = expectedImageID, id.isEmpty || !id.allSatisfy(\.isHexDigit) {
            return "--expect-image-id takes hexadecimal digits"
        }
        return nil
    }

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

/// Make an image or a snapshot of a disk.
public struct CaptureJob: Codable, Equatable, Sendable {
    /// The disk: a block device or a raw image file.
    public var disk: String
    /// The image to write as it was written; `-` for standard output, `REPO@` for a repository.
    public var image: String
    /// How an image is compressed: `zstd` or `xz`.
    public var codec = "zstd"
    /// The compression level; `nil` for the codec's usual one.
    public var level: Int?
    /// The length of a chunk of an image in bytes; `nil` for the usual one.
    public var chunkByteCount: Int?
    /// Whether every sector is copied.
    public var copiesAllSectors = false
    /// Whether what Windows' page files hold is left out.
    public var skipsPageFiles = false
    /// Whether allocation maps are believed.
    public var trustsMaps = false
    /// Whether the image is encrypted.
    public var encrypts = false
    /// A remark.
    public var note = ""
    /// The captured machine's name in a repository.
    public var host: String?
    /// The disk's name in a repository.
    public var diskName: String?
    /// Tags.
    public var tags: [String] = []
    /// Whether sectors that cannot be read are passed.
    public var rescues = false
    /// Whether mounted LVM volumes are read from snapshots.
    public var usesSnapshots = false
    /// Whether a disk is captured that is mounted read-write.
    public var allowsMounted = false
    /// Whether this machine's clock dates a snapshot, whatever else says.
    public var trustsClock = false
    /// Whether a disk with an interrupted restore is captured.
    public var allowsPartial = false
    /// Whether an image that exists is replaced.
    public var overwrites = false
    /// Whether an image in the place of the disk is captured as the bytes that it has.
    public var takesImageAsDisk = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []

    /// Names the two ends.
    public init(disk: String, image: String) {
        self.disk = disk
        self.image = image
    }
}

/// Copy an image or snapshots.
public struct CopyJob: Codable, Equatable, Sendable {
    /// An image, a snapshot, or `REPO@` for all snapshots.
    public var source: String
    /// An image, `REPO@`, or `-`.
    public var destination: String
    /// The zstd compression level of what is written.
    public var level = 3
    /// Whether the image that is written is encrypted.
    public var encrypts = false
    /// Whether an image that exists is replaced.
    public var overwrites = false
    /// The machine's name, where the source does not say one.
    public var host: String?
    /// Whether what is encrypted in the source may be stored in the clear.
    public var storesInTheClear = false
    /// Whether what is left of a damaged source is copied.
    public var salvages = false

    /// Names the two ends.
    public init(source: String, destination: String) {
        self.source = source
        self.destination = destination
    }
}

/// Check an image, a snapshot or a repository.
public struct VerifyJob: Codable, Equatable, Sendable {
    /// What is checked, as it was written.
    public var image: String
    /// How much of a repository's data is read, in percent; `nil` for none.
    public var readsDataPercent: Double?
    /// Whether damaged contents of a repository are set aside.
    public var repairs = false

    /// Names what is checked.
    public init(image: String) { self.image = image }
}

/// Look at what a disk, an image or a snapshot holds.
public struct InspectJob: Codable, Equatable, Sendable {
    /// What is looked at, as it was written.
    public var disk: String
    /// Whether allocation maps are believed.
    public var trustsMaps = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []

    /// Names what is looked at.
    public init(disk: String) { self.disk = disk }
}

/// What can be asked of Reforge by a job file.
public enum Job: Codable, Equatable, Sendable {
    case restore(RestoreJob)
    case capture(CaptureJob)
    case copy(CopyJob)
    case verify(VerifyJob)
    case repairBoot(BootRepairJob)

    /// What a report calls it.
    public var operation: String {
        switch self {
        case .restore: "restore"
        case .capture: "capture"
        case .copy: "copy"
        case .verify: "verify"
        case .repairBoot: "boot-repair"
        }
    }
}

/// A job as a file holds it, for a process that does it: `reforge run-job FILE`. It holds no password, but may name the file that
/// does.
public struct JobFile: Codable, Equatable, Sendable {
    /// The version of the form.
    public var schema = 1
    /// What is to be done.
    public var job: Job
    /// The file with the password of an encrypted image or repository.
    public var passwordFile: String?

    /// Names both.
    public init(_ job: Job, passwordFile: String? = nil) {
        self.job = job
        self.passwordFile = passwordFile
    }
}
