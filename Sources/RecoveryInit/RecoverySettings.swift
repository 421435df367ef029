// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// What an unattended medium was told to do.
package struct RecoverySettings: Equatable, Sendable {
    /// What to do.
    package enum Job: Equatable, Sendable {
        /// Put an image on a disk.
        case restore(Restore)
        /// Make an image of a disk.
        case capture(DiskSelector, to: ImageAddress)
    }

    /// A restore.
    package struct Restore: Equatable, Sendable {
        /// Where the image is.
        package var image: ImageAddress
        /// Which disk it goes to.
        package var target: DiskSelector
        /// How the partitions are laid out; `nil` leaves that to `reforge restore`.
        package var layout: LayoutPolicy?
        /// What single partitions are to have, as `reforge restore --partition` takes it: `3=40GiB`.
        package var partitions: [String]
        /// The image id, or the first 8 or more digits of it, lower case; `nil` takes any image.
        package var imageID: String?
        /// Whether what was written is read back.
        package var verify: Bool
        /// Whether the restored system is made to boot where that takes changes.
        package var repairsBoot: Bool
        /// Whether what nobody knows to work with sectors of another size is restored all the same.
        package var trustsUnknown: Bool
        /// What the job is called, so that it is done once on its disk; `nil` keeps no count of it.
        package var jobID: String?
        /// The folder for what does not fit while filesystems are made smaller; `nil` leaves the choice to the session.
        package var scratch: ImageAddress?

        /// Describes a restore.
        package init(
            image: ImageAddress, target: DiskSelector, layout: LayoutPolicy? = nil, partitions: [String] = [],
            imageID: String? = nil, verify: Bool = false, repairsBoot: Bool = true, trustsUnknown: Bool = false,
            jobID: String? = nil, scratch: ImageAddress? = nil
        ) {
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

    /// What follows a job that succeeded.
    package enum Finish: String, Equatable, Sendable, CaseIterable {
        /// The machine starts again.
        case reboot
        /// The machine is switched off.
        case poweroff
        /// A rescue shell on every console.
        case shell
    }

    /// What to do; `nil` for nothing but the menu.
    package var job: Job?
    /// What follows a success; `nil` for the menu.
    package var finish: Finish?
    /// Whether the job of a `reforge.json`, or one with a job id, is done at each start, not only once.
    package var repeats: Bool
    /// Where the file is that holds the password of an encrypted image or repository.
    package var key: ImageAddress?
    /// Where the file is that holds the key of the disk's LUKS volumes.
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

    /// The settings on a kernel command line (`reforge.KEY=VALUE`); `nil` where it has none.
    /// - Throws: status 64, naming the parameter that is unknown, wrong or missing.
    package static func parse(commandLine: String) throws(JobFailure) -> RecoverySettings? {
        var values: [String: String] = [:]
        for parameter in KernelCommandLine.parse(commandLine) {
            guard let name = parameter.key.valueAfter(prefix) else { continue }
            // The kernel takes `-` and `_` in names for the same.
            let key = name.map { $0 == "_" ? "-" : $0 }.reduce(into: "") { $0.append($1) }
            let value = parameter.value ?? (["verify", "trust-unknown", "repeat"].contains(key) ? "yes" : "")
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
