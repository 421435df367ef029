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
        return values.isEmpty ? nil : try from(values, namedWith: prefix, of: "the kernel command line")
    }

    private static let prefix = "reforge."
    static let keys = [
        "restore", "target", "layout", "partition", "image-id", "verify", "finish", "capture", "to", "key",
        "boot-repair", "luks-key", "trust-unknown", "scratch", "repeat", "job-id",
    ]

    /// From keys and values.
    static func from(
        _ values: [String: String], namedWith prefix: String, of source: String
    ) throws(JobFailure) -> RecoverySettings {
        func refuse(_ why: String) -> JobFailure { JobFailure(.usage, "\(source): \(why)") }
        if let unknown = values.keys.filter({ !keys.contains($0) }).min() {
            throw refuse(
                "\(prefix)\(unknown.printable) is not a setting. The settings are \(keys.joined(separator: ", ")).")
        }
        func choice<Value: RawRepresentable & CaseIterable>(_ key: String) throws(JobFailure) -> Value?
        where Value.RawValue == String {
            guard let text = values[key] else { return nil }
            guard let value = Value(rawValue: text) else {
                let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
                throw refuse("\(prefix)\(key)=\(text.printable) is none of \(known)")
            }
            return value
        }
        func detail<Value>(
            _ key: String, _ text: String, _ body: (String) throws(JobFailure) -> Value
        ) throws(JobFailure) -> Value {
            do { return try body(text) } catch { throw refuse("\(prefix)\(key): \(error.message)") }
        }
        let finish: Finish? = try choice("finish")
        let layout: LayoutPolicy? = try choice("layout")
        if values["restore"] != nil, values["capture"] != nil {
            throw refuse("\(prefix)restore and \(prefix)capture exclude each other")
        }
        for (key, other) in [
            ("target", "restore"), ("layout", "restore"), ("partition", "restore"), ("image-id", "restore"),
            ("verify", "restore"), ("boot-repair", "restore"), ("trust-unknown", "restore"), ("scratch", "restore"),
            ("job-id", "restore"),
            ("to", "capture"),
        ] where values[key] != nil && values[other] == nil {
            throw refuse("\(prefix)\(key) makes sense with \(prefix)\(other) only")
        }
        func keyFile(_ key: String) throws(JobFailure) -> ImageAddress? {
            guard let text = values[key] else { return nil }
            guard values["restore"] != nil || values["capture"] != nil else {
                throw refuse("\(prefix)\(key) makes sense with \(prefix)restore or \(prefix)capture only")
            }
            return try detail(key, text, ImageAddress.parse(setting:))
        }
        func flag(_ key: String, otherwise value: Bool) throws(JobFailure) -> Bool {
            try values[key].map { text throws(JobFailure) in try detail(key, text, checkedBool) } ?? value
        }
        let repeats = try flag("repeat", otherwise: false)
        if values["repeat"] != nil, values["restore"] == nil, values["capture"] == nil {
            throw refuse("\(prefix)repeat makes sense with \(prefix)restore or \(prefix)capture only")
        }
        let key = try keyFile("key")
        let luksKey = try keyFile("luks-key")
        if let image = values["restore"] {
            guard let target = values["target"] else {
                throw refuse("\(prefix)restore needs \(prefix)target: which disk may be overwritten")
            }
            // One text for all of them: a key stands once on a command line.
            let partitions =
                values["partition"]?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) ?? []
            do { _ = try LayoutRequest(parsing: partitions) } catch {
                throw refuse("\(prefix)partition: \(error.description.printable)")
            }
            let restore = Restore(
                image: try detail("restore", image, ImageAddress.parse(setting:)),
                target: try detail("target", target, DiskSelector.parse), layout: layout, partitions: partitions,
                imageID: try values["image-id"].map { text throws(JobFailure) in
                    try detail("image-id", text, checkedImageID)
                },
                verify: try flag("verify", otherwise: false),
                repairsBoot: try flag("boot-repair", otherwise: true),
                trustsUnknown: try flag("trust-unknown", otherwise: false),
                jobID: try values["job-id"].map { text throws(JobFailure) in
                    try detail("job-id", text, checkedJobID)
                },
                scratch: try values["scratch"].map { text throws(JobFailure) in
                    try detail("scratch", text, ImageAddress.parse(folder:))
                })
            return RecoverySettings(
                job: .restore(restore), finish: finish, key: key, luksKey: luksKey, repeats: repeats)
        }
        if let disk = values["capture"] {
            guard let place = values["to"] else {
                throw refuse("\(prefix)capture needs \(prefix)to: where the image goes")
            }
            let location = try detail("to", place, ImageAddress.parse(setting:))
            guard !location.needsNetwork else {
                throw refuse("\(prefix)to: an image cannot be sent to \(location) yet; name a file on a volume")
            }
            return RecoverySettings(
                job: .capture(try detail("capture", disk, DiskSelector.parse), to: location), finish: finish, key: key,
                luksKey: luksKey, repeats: repeats)
        }
        return RecoverySettings(job: nil, finish: finish)
    }

    private static func checkedImageID(_ text: String) throws(JobFailure) -> String {
        guard (8...64).contains(text.utf8.count), text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
            throw JobFailure(.usage, "an image id has 8 to 64 hexadecimal digits")
        }
        return text.lowercased()
    }

    private static func checkedJobID(_ text: String) throws(JobFailure) -> String {
        guard RestoreNote.isJobID(text) else {
            throw JobFailure(
                .usage, "a job id has 1 to 64 letters, digits, dots, hyphens and underscores")
        }
        return text
    }

    private static func checkedBool(_ text: String) throws(JobFailure) -> Bool {
        switch text.lowercased() {
        case "yes", "true", "1", "on": true
        case "no", "false", "0", "off": false
        default: throw JobFailure(.usage, "\"\(text.printable)\" is neither yes nor no")
        }
    }
}
