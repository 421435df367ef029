// SPDX-License-Identifier: GPL-3.0-or-later

import DiskModel

/// Restores an image or a snapshot onto a disk.
public struct RestoreJob: Codable, Equatable, Sendable {
    /// The image as given by the user; `-` for standard input.
    public var image: String
    /// The target: a block device or a raw image file.
    public var disk: String
    /// How partitions are laid out: `keep`, `grow` or `proportional`.
    public var layout = "grow"
    /// The sizes of single partitions, as `N=SIZE`.
    public var partitions: [String] = []
    /// The partition of the image that is restored alone.
    public var only: Int?
    /// The partition of the target that it goes into.
    public var into: Int?
    /// The folder for data that does not fit while filesystems shrink.
    public var scratch: String?
    /// Whether only the plan is made.
    public var dryRun = false
    /// Whether the loss of the target's contents is confirmed.
    public var isConfirmed = false
    /// Whether everything is read back and compared.
    public var verifies = false
    /// Whether the whole image is checked before the first write.
    public var verifiesFirst = false
    /// Whether the intact data of a damaged image is restored.
    public var salvages = false
    /// The code of the losses that are confirmed.
    public var confirmedLosses: String?
    /// Whether the target is trimmed first.
    public var discards = false
    /// Whether only chunks that differ are written.
    public var isDelta = false
    /// Whether boot repair follows; `nil`: only in the recovery environment.
    public var repairsBoot: Bool?
    /// The firmware that the disk is to start by: `keep`, `auto`, `bios` or `uefi`.
    public var firmware = "keep"
    /// Whether contents are restored that are not known to work with another sector size.
    public var trustsUnknown = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The expected id of the image, or the beginning of one.
    public var expectedImageID: String?
    /// The expected sequence number of the target's attachment.
    public var expectedDiskSequence: UInt64?
    /// The job id to record on the restored disk.
    public var jobID: String?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false
    /// Whether a clone continues past unreadable sectors of its source.
    public var rescues = false
    /// The expected serial number, or name, of the disk that is cloned.
    public var confirmedSource: String?

    /// The parts of the restored system's identity that are renewed, as `--new-identity` takes them; empty for the
    /// standard ones, `nil` for none.
    public var newIdentity: String?
    /// The files of programs that run in the restored system at the end, in order.
    public var hooks: [String] = []

    /// Why the options contradict each other; `nil` if they do not.
    public var contradiction: String? {
        if only != nil, newIdentity != nil || !hooks.isEmpty { return "--only excludes --new-identity and --hook" }
        if repairsBoot == false, changesIdentifiers {
            return
                "new UUIDs and LVM ids need boot repair, as loaders may hold the old ones: leave out --no-boot-repair"
        }
        if isDelta, discards {
            return "--delta and --discard exclude each other: trimmed sectors hold nothing to compare with"
        }
        if only != nil, !partitions.isEmpty || discards {
            return "--only excludes --partition and --discard"
        }
        if confirmedLosses != nil, !salvages { return "--confirm-salvage needs --salvage" }
        if salvages, verifiesFirst {
            return "--salvage reads the whole image first by itself: leave out --verify-first"
        }
        if salvages, rescues {
            return "--salvage is for a damaged image, and --rescue for a failing disk: leave one of them out"
        }
        if only != nil, firmware != "keep" { return "--only excludes --firmware: the partition table stays" }
        if repairsBoot == false, firmware != "keep" {
            return "--firmware needs boot repair, which installs the loader: leave out --no-boot-repair"
        }
        if only != nil, repairsBoot == true { return "--only leaves boot repair out" }
        if into != nil, only == nil { return "--into needs --only" }
        if image == "-", verifiesFirst { return "--verify-first needs an image that can be read twice, not -" }
        if only != nil, jobID != nil { return "--only excludes --job-id" }
        if let id = expectedImageID, id.isEmpty || !id.allSatisfy(\.isHexDigit) {
            return "--expect-image-id takes hexadecimal digits"
        }
        return nil
    }

    /// Whether identifiers change to which loaders may refer. A request that makes no sense is refused elsewhere.
    package var changesIdentifiers: Bool {
        guard let newIdentity, let request = try? IdentityRequest(parsing: newIdentity) else { return false }
        return !request.parts.isDisjoint(with: [.uuids, .lvm])
    }

    /// Creates a job with its source and its target.
    public init(image: String, disk: String) {
        self.image = image
        self.disk = disk
    }
}

/// Makes the system on a disk boot on this machine.
public struct BootRepairJob: Codable, Equatable, Sendable {
    /// The disk: a block device or a raw image file.
    public var disk: String
    /// Whether only the plan is made.
    public var dryRun = false
    /// Whether the firmware's boot entries may be changed.
    public var changesNVRAM = true
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The files with keys of LUKS volumes.
    public var luksKeyFiles: [String] = []

    /// Creates a job for a disk.
    public init(disk: String) { self.disk = disk }
}

/// Captures a disk into an image or a snapshot.
public struct CaptureJob: Codable, Equatable, Sendable {
    /// The disk: a block device or a raw image file.
    public var disk: String
    /// The new image as given by the user; `-` for standard output, `REPO@` for a repository.
    public var image: String
    /// The compression of an image: `zstd` or `xz`.
    public var codec = "zstd"
    /// The compression level; `nil` for the codec's default.
    public var level: Int?
    /// The chunk length of an image in bytes; `nil` for the default.
    public var chunkByteCount: Int?
    /// Whether every sector is copied.
    public var copiesAllSectors = false
    /// Whether the contents of Windows' page files are left out.
    public var skipsPageFiles = false
    /// Whether allocation maps are trusted without a check.
    public var trustsMaps = false
    /// Whether the image is encrypted.
    public var encrypts = false
    /// A remark for the image.
    public var note = ""
    /// The captured machine's name in a repository.
    public var host: String?
    /// The disk's name in a repository.
    public var diskName: String?
    /// Tags for the image or snapshot.
    public var tags: [String] = []
    /// Whether the capture continues past unreadable sectors.
    public var rescues = false
    /// Whether mounted LVM volumes are read from snapshots.
    public var usesSnapshots = false
    /// Whether a disk is captured that is mounted read-write.
    public var allowsMounted = false
    /// Whether this machine's clock dates the snapshot even if other clocks contradict it.
    public var trustsClock = false
    /// Whether a disk with an interrupted restore is captured.
    public var allowsPartial = false
    /// Whether an existing image is replaced.
    public var overwrites = false
    /// Whether an image file is accepted as the disk, and captured byte for byte.
    public var takesImageAsDisk = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job with its source and its destination.
    public init(disk: String, image: String) {
        self.disk = disk
        self.image = image
    }
}

/// Copies an image or snapshots.
public struct CopyJob: Codable, Equatable, Sendable {
    /// An image, a snapshot, or `REPO@` for all snapshots.
    public var source: String
    /// An image, `REPO@`, or `-`.
    public var destination: String
    /// The zstd compression level in the destination.
    public var level = 3
    /// Whether the image that is written is encrypted.
    public var encrypts = false
    /// Whether an existing image is replaced.
    public var overwrites = false
    /// The host name in the destination; `nil` for the source's.
    public var host: String?
    /// Whether data of an encrypted source may be stored unencrypted.
    public var storesInTheClear = false
    /// Whether the intact data of a damaged source is copied.
    public var salvages = false
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job with its source and its destination.
    public init(source: String, destination: String) {
        self.source = source
        self.destination = destination
    }
}

/// Verifies an image, a snapshot or a repository.
public struct VerifyJob: Codable, Equatable, Sendable {
    /// The image, snapshot or repository, as given by the user.
    public var image: String
    /// The share of a repository's data that is read, in percent; `nil` for none.
    public var readsDataPercent: Double?
    /// Whether damaged contents of a repository are set aside.
    public var repairs = false
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for an image, a snapshot or a repository.
    public init(image: String) { self.image = image }
}

/// Inspects a disk, an image or a snapshot.
public struct InspectJob: Codable, Equatable, Sendable {
    /// The disk, image or snapshot, as given by the user.
    public var disk: String
    /// Whether allocation maps are trusted without a check.
    public var trustsMaps = false
    /// The logical sector size of a raw image file.
    public var sectorSize: Int?
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for a disk, an image or a snapshot.
    public init(disk: String) { self.disk = disk }
}

/// The jobs that a job file can hold.
public enum Job: Codable, Equatable, Sendable {
    case restore(RestoreJob)
    case capture(CaptureJob)
    case copy(CopyJob)
    case verify(VerifyJob)
    case repairBoot(BootRepairJob)

    /// The operation's name in reports.
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

/// A job in a file, for the process that runs it: `reforge run-job FILE`. It holds no password, but may name a password
/// file.
public struct JobFile: Codable, Equatable, Sendable {
    /// The version of the file's JSON.
    public var schema = 1
    /// The job to run.
    public var job: Job
    /// The file with the password of an encrypted image or repository.
    public var passwordFile: String?

    /// Creates a job file.
    public init(_ job: Job, passwordFile: String? = nil) {
        self.job = job
        self.passwordFile = passwordFile
    }
}
