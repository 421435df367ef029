// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// Keys and values of settings, from a command line or a file, not yet checked.
struct SettingValues {
    private let values: [String: String]
    private let prefix: String
    private let source: String

    private static let keys = [
        "restore", "target", "layout", "partition", "image-id", "verify", "finish", "capture", "to", "key",
        "boot-repair", "luks-key", "trust-unknown", "scratch", "repeat", "job-id",
        "new-identity", "firmware",
    ]
    /// Keys, each with the key that it requires.
    private static let companions = [
        ("target", "restore"), ("layout", "restore"), ("partition", "restore"), ("image-id", "restore"),
        ("verify", "restore"), ("boot-repair", "restore"), ("trust-unknown", "restore"), ("scratch", "restore"),
        ("job-id", "restore"), ("new-identity", "restore"), ("firmware", "restore"),
        ("to", "capture"),
    ]

    /// - Parameters:
    ///   - prefix: the prefix of each key in its source, for messages.
    ///   - source: the name of the source in messages.
    init(_ values: [String: String], namedWith prefix: String, of source: String) {
        self.values = values
        self.prefix = prefix
        self.source = source
    }

    /// Checks the values.
    /// - Throws: status 64, naming the setting that is unknown, wrong or missing.
    func settings() throws(JobFailure) -> RecoverySettings {
        if let unknown = values.keys.filter({ !Self.keys.contains($0) }).min() {
            throw refuse(
                "\(prefix)\(unknown.printable) is not a setting. The settings are \(Self.keys.joined(separator: ", "))."
            )
        }
        let finish: RecoverySettings.Finish? = try choice("finish")
        let layout: LayoutPolicy? = try choice("layout")
        if values["restore"] != nil, values["capture"] != nil {
            throw refuse("\(prefix)restore and \(prefix)capture exclude each other")
        }
        for (key, other) in Self.companions where values[key] != nil && values[other] == nil {
            throw refuse("\(prefix)\(key) makes sense with \(prefix)\(other) only")
        }
        let repeats = try flag("repeat", otherwise: false)
        if values["repeat"] != nil, values["restore"] == nil, values["capture"] == nil {
            throw refuse("\(prefix)repeat makes sense with \(prefix)restore or \(prefix)capture only")
        }
        let key = try keyFile("key")
        let luksKey = try keyFile("luks-key")
        if let image = values["restore"] {
            return RecoverySettings(
                job: .restore(try restore(image, layout)), finish: finish, key: key, luksKey: luksKey, repeats: repeats)
        }
        if let disk = values["capture"] {
            return RecoverySettings(
                job: try capture(disk), finish: finish, key: key, luksKey: luksKey, repeats: repeats)
        }
        return RecoverySettings(job: nil, finish: finish)
    }

    private func restore(_ image: String, _ layout: LayoutPolicy?) throws(JobFailure) -> RecoverySettings.Restore {
        guard let target = values["target"] else {
            throw refuse("\(prefix)restore needs \(prefix)target: which disk may be overwritten")
        }
        // One text for all of them: a key may occur only once on a command line.
        let partitions =
            values["partition"]?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) ?? []
        do { _ = try LayoutRequest(parsing: partitions) } catch {
            throw refuse("\(prefix)partition: \(error.description.printable)")
        }
        let newIdentity = try values["new-identity"].map { text throws(JobFailure) in
            try detail("new-identity", text, Self.checkedIdentity)
        }
        let firmware: FirmwareChoice = try choice("firmware") ?? .keep
        let repairsBoot = try flag("boot-repair", otherwise: true)
        if !repairsBoot, let newIdentity, !newIdentity.parts.isDisjoint(with: [.uuids, .lvm]) {
            throw refuse("\(prefix)new-identity with uuids or lvm needs boot repair: leave out \(prefix)boot-repair")
        }
        guard repairsBoot || firmware == .keep else {
            throw refuse("\(prefix)firmware needs \(prefix)boot-repair, which installs the loader")
        }
        return RecoverySettings.Restore(
            image: try detail("restore", image, ImageAddress.parse(setting:)),
            target: try detail("target", target, DiskSelector.parse), layout: layout, partitions: partitions,
            imageID: try values["image-id"].map { text throws(JobFailure) in
                try detail("image-id", text, Self.checkedImageID)
            },
            verify: try flag("verify", otherwise: false),
            repairsBoot: repairsBoot,
            trustsUnknown: try flag("trust-unknown", otherwise: false),
            jobID: try values["job-id"].map { text throws(JobFailure) in
                try detail("job-id", text, Self.checkedJobID)
            },
            scratch: try values["scratch"].map { text throws(JobFailure) in
                try detail("scratch", text, ImageAddress.parse(folder:))
            }, newIdentity: newIdentity, firmware: firmware)
    }

    private func capture(_ disk: String) throws(JobFailure) -> RecoverySettings.Job {
        guard let place = values["to"] else {
            throw refuse("\(prefix)capture needs \(prefix)to: where the image goes")
        }
        let location = try detail("to", place, ImageAddress.parse(setting:))
        guard !location.needsNetwork else {
            throw refuse("\(prefix)to: an image cannot be sent to \(location) yet; name a file on a volume")
        }
        return .capture(try detail("capture", disk, DiskSelector.parse), to: location)
    }

    // MARK: Single values

    private func refuse(_ why: String) -> JobFailure { JobFailure(.usage, "\(source): \(why)") }

    /// A value that is one of a few words.
    private func choice<Value: RawRepresentable & CaseIterable>(_ key: String) throws(JobFailure) -> Value?
    where Value.RawValue == String {
        guard let text = values[key] else { return nil }
        guard let value = Value(rawValue: text) else {
            let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
            throw refuse("\(prefix)\(key)=\(text.printable) is not one of \(known)")
        }
        return value
    }

    /// A value parsed by `body`; errors are prefixed with the key.
    private func detail<Value>(
        _ key: String, _ text: String, _ body: (String) throws(JobFailure) -> Value
    ) throws(JobFailure) -> Value {
        do { return try body(text) } catch { throw refuse("\(prefix)\(key): \(error.message)") }
    }

    private func keyFile(_ key: String) throws(JobFailure) -> ImageAddress? {
        guard let text = values[key] else { return nil }
        guard values["restore"] != nil || values["capture"] != nil else {
            throw refuse("\(prefix)\(key) makes sense with \(prefix)restore or \(prefix)capture only")
        }
        return try detail(key, text, ImageAddress.parse(setting:))
    }

    private func flag(_ key: String, otherwise value: Bool) throws(JobFailure) -> Bool {
        try values[key].map { text throws(JobFailure) in try detail(key, text, Self.checkedBool) } ?? value
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

    /// A list of parts; `yes` for the standard ones, as a flag without a value.
    private static func checkedIdentity(_ text: String) throws(JobFailure) -> IdentityRequest {
        do { return try IdentityRequest(parsing: text == "yes" ? "" : text) } catch {
            throw JobFailure(.usage, error.description.printable)
        }
    }

    private static func checkedBool(_ text: String) throws(JobFailure) -> Bool {
        switch text.lowercased() {
        case "yes", "true", "1", "on": true
        case "no", "false", "0", "off": false
        default: throw JobFailure(.usage, "\"\(text.printable)\" is neither yes nor no")
        }
    }
}
