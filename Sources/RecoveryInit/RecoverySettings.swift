// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// The settings of an unattended medium.
package struct RecoverySettings: Equatable, Sendable {
    /// The job.
    package enum Job: Equatable, Sendable {
        /// Restores an image to a disk.
        case restore(Restore)
        /// Captures a disk to an image.
        case capture(DiskSelector, to: ImageAddress)
    }

    /// A restore.
    package struct Restore: Equatable, Sendable {
        /// The location of the image.
        package var image: ImageAddress
        /// The target disk.
        package var target: DiskSelector
        /// The layout policy; `nil` for the default of `reforge restore`.
        package var layout: LayoutPolicy?
        /// Sizes of single partitions, in the syntax of `reforge restore --partition`: `3=40GiB`.
        package var partitions: [String]
        /// The image id, or at least its first 8 digits, lower case; `nil` accepts any image.
        package var imageID: String?
        /// Whether the written data is read back.
        package var verify: Bool
        /// Whether boot repair runs after the restore.
        package var repairsBoot: Bool
        /// The firmware that the disk is to start by.
        package var firmware: FirmwareChoice
        /// Whether to restore filesystems that are not known to work with a different sector size.
        package var trustsUnknown: Bool
        /// The id of the job, so that it runs only once on its disk; `nil` for no such check.
        package var jobID: String?
        /// The scratch folder for shrinking filesystems; `nil` lets the session choose.
        package var scratch: ImageAddress?
        /// The parts of the restored system's identity that are renewed; `nil` for none.
        package var newIdentity: IdentityRequest?
        /// The files of programs that run in the restored system at the end: copies of those in `hooks` on the REFORGE
        /// volume that the settings come from.
        package var hooks: [String] = []

        /// Describes a restore.
        package init(
            image: ImageAddress, target: DiskSelector, layout: LayoutPolicy? = nil, partitions: [String] = [],
            imageID: String? = nil, verify: Bool = false, repairsBoot: Bool = true, trustsUnknown: Bool = false,
            jobID: String? = nil, scratch: ImageAddress? = nil, newIdentity: IdentityRequest? = nil,
            firmware: FirmwareChoice = .keep
        ) {
            self.newIdentity = newIdentity
            self.firmware = firmware
            self.jobID = jobID
            self.image = image
            self.target = target
            self.layout = layout
            self.partitions = partitions
            self.imageID = imageID
            self.verify = verify
            self.repairsBoot = repairsBoot
            self.trustsUnknown = trustsUnknown
            self.scratch = scratch
        }
    }

    /// The action after a successful job.
    package enum Finish: String, Equatable, Sendable, CaseIterable {
        /// The machine restarts.
        case reboot
        /// The machine is switched off.
        case poweroff
        /// A rescue shell on every console.
        case shell
    }

    /// The job; `nil` for only the menu.
    package var job: Job?
    /// The action after success; `nil` for the menu.
    package var finish: Finish?
    /// Whether the job of a `reforge.json`, or one with a job id, runs at each start, not only once.
    package var repeats: Bool
    /// The location of the file with the password of an encrypted image or repository.
    package var key: ImageAddress?
    /// The location of the file with the key of the disk's LUKS volumes.
    package var luksKey: ImageAddress?

    /// Describes settings.
    package init(
        job: Job? = nil, finish: Finish? = nil, key: ImageAddress? = nil, luksKey: ImageAddress? = nil,
        repeats: Bool = false
    ) {
        self.repeats = repeats
        self.luksKey = luksKey
        self.job = job
        self.finish = finish
        self.key = key
    }

    /// The settings on a kernel command line (`reforge.KEY=VALUE`); `nil` if it has none.
    /// - Throws: status 64, naming the parameter that is unknown, wrong or missing.
    package static func parse(commandLine: String) throws(JobFailure) -> RecoverySettings? {
        var values: [String: String] = [:]
        for parameter in KernelCommandLine.parse(commandLine) {
            guard let name = parameter.key.valueAfter(prefix) else { continue }
            // The kernel treats `-` and `_` in names as equal.
            let key = name.map { $0 == "_" ? "-" : $0 }.reduce(into: "") { $0.append($1) }
            // No setting, but the way to a part of the medium (`MediumExtras`): GRUB sets it.
            if key == "extras" { continue }
            let flags = ["verify", "trust-unknown", "repeat", "new-identity"]
            let value = parameter.value ?? (flags.contains(key) ? "yes" : "")
            guard values[key] == nil || values[key] == value else {
                throw JobFailure(
                    .usage, "the kernel command line has \(prefix)\(key) twice, with different values")
            }
            values[key] = value
        }
        guard !values.isEmpty else { return nil }
        return try SettingValues(values, namedWith: prefix, of: "the kernel command line").settings()
    }

    private static let prefix = "reforge."
}
