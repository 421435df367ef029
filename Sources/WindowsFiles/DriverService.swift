// SPDX-License-Identifier: GPL-3.0-or-later

/// The state of a driver in a SYSTEM hive: `ControlSet00N\Services\NAME`.
package struct DriverService: Equatable, Sendable {
    package let name: String
    /// The number of the control set: `1` for `ControlSet001`.
    package let controlSet: UInt32
    /// 0 starts it with the system, 3 on demand, 4 never; `nil` if it is no number.
    package let start: HiveWord?
    /// `StartOverride\0`, which replaces `Start` where it exists.
    package let startOverride: HiveWord?
    /// Its file, relative to the system's volume: `\Windows\System32\drivers\storahci.sys`.
    package let path: String

    /// Whether Windows loads it before it reads its own disk.
    package var startsAtBoot: Bool { start?.value == 0 && (startOverride?.value ?? 0) == 0 }
    /// The numbers to be set to 0 so that it does; `nil` if that is not enough.
    package var wordsToClear: [HiveWord]? {
        guard let start else { return nil }
        return ([start] + (startOverride.map { [$0] } ?? [])).filter { $0.value != 0 }
    }
}

/// The control sets of a SYSTEM hive that Windows may start with.
package struct ControlSets: Sendable {
    private let hive: RegistryHive
    /// `Select\Current` and, where it differs, `Select\Default`: the set of the last start, and of the next one.
    package let numbers: [UInt32]

    package init(_ hive: RegistryHive) throws(WindowsFileError) {
        self.hive = hive
        guard let select = try hive.key("Select") else { throw .damaged("it names no control set") }
        var numbers: [UInt32] = []
        for name in ["Current", "Default"] {
            guard let value = try hive.value(of: select, named: name), let number = hive.word(value)?.value else {
                continue
            }
            guard (1...999).contains(number) else { throw .damaged("the number of its control set") }
            if !numbers.contains(number) { numbers.append(number) }
        }
        guard !numbers.isEmpty else { throw .damaged("it names no control set") }
        self.numbers = numbers
    }

    /// The drivers of these names that are there, set by set.
    /// - Parameter systemRoot: the folder of Windows, with a backslash in front: `\Windows`.
    package func drivers(_ names: [String], systemRoot: String) throws(WindowsFileError) -> [DriverService] {
        var found: [DriverService] = []
        for number in numbers {
            let digits = String(number)
            let set = "ControlSet" + String(repeating: "0", count: 3 - digits.count) + digits
            guard let services = try hive.key(set, "Services") else { throw .damaged("\(set) has no services") }
            let keys = try hive.subkeys(of: services, named: Set(names.map { $0.lowercased() }))
            for name in names {
                guard let key = keys[name.lowercased()] else { continue }
                guard key.subkeyCount <= RegistryHive.largestLookup else {
                    throw .damaged("a driver has too many subkeys")
                }
                let override = try hive.subkey(of: key, named: "StartOverride")
                let image = try hive.value(of: key, named: "ImagePath").flatMap { hive.text($0) }
                found.append(
                    DriverService(
                        name: name, controlSet: number, start: try word(key, "Start"),
                        startOverride: try override.flatMap { (key) throws(WindowsFileError) in try word(key, "0") },
                        path: Self.path(image, name: name, systemRoot: systemRoot)))
            }
        }
        return found
    }

    private func word(_ key: HiveKey, _ name: String) throws(WindowsFileError) -> HiveWord? {
        try hive.value(of: key, named: name).flatMap { hive.word($0) }
    }

    /// The path of a driver's file. Relative ones start at the system's folder; without one, the driver is in
    /// `System32\drivers`.
    static func path(_ image: String?, name: String, systemRoot: String) -> String {
        guard let image, !image.isEmpty else { return "\(systemRoot)\\System32\\drivers\\\(name).sys" }
        let lower = image.lowercased()
        for prefix in ["\\systemroot\\", "%systemroot%\\"] where lower.hasPrefix(prefix) {
            return "\(systemRoot)\\\(image.dropFirst(prefix.count))"
        }
        // `\??\C:\Windows\…`
        if lower.hasPrefix("\\??\\"), image.dropFirst(5).hasPrefix(":") { return String(image.dropFirst(6)) }
        return image.hasPrefix("\\") ? image : "\(systemRoot)\\\(image)"
    }
}
