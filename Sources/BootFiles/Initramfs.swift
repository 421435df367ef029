// SPDX-License-Identifier: GPL-3.0-or-later

/// The contents of an initramfs: names, kernel modules, and a few small files. Nothing of it runs.
package struct Initramfs: Equatable, Sendable {
    /// The names of all entries, without a leading "./" or "/".
    package private(set) var names: Set<String> = []
    /// The kernel modules by kernel version; names as in `ModuleName`.
    package private(set) var modules: [String: Set<String>] = [:]
    /// The contents of the small files that `isWanted` selects.
    package private(set) var files: [String: [UInt8]] = [:]
    /// The compressions of its segments, in order.
    package internal(set) var compressions: [InitramfsCompression] = []
    /// The length that it unpacks to, in bytes.
    package internal(set) var unpackedByteCount: UInt64 = 0
    /// The length of all names, in bytes.
    private(set) var nameByteCount = 0

    package init() {}

    /// The program that made it.
    package var generator: InitramfsGenerator {
        if names.contains("conf/initramfs.conf") || names.contains("conf/arch.conf") { return .initramfsTools }
        if hasFolder("lib/dracut") || files.keys.contains(where: { $0.hasSuffix("dracut/build-parameter.txt") }) {
            return .dracut
        }
        if names.contains("buildconfig") || names.contains("hooks") { return .mkinitcpio }
        if names.contains("usr/lib/initrd-release") || names.contains("etc/initrd-release") { return .dracut }
        return .unknown
    }

    /// Whether it was made for one machine, with the drivers of that machine only; `nil` if nothing shows it.
    package var isHostOnly: Bool? {
        switch generator {
        case .initramfsTools:
            // initramfs.conf(5): conf.d overrides; `dep` guesses the modules from the running machine, and `list` has
            // those that somebody chose.
            let names = ["conf/initramfs.conf"] + files.keys.filter { $0.hasPrefix("conf/conf.d/") }.sorted()
            var value: String?
            for name in names { value = Self.variable("MODULES", in: files[name] ?? []) ?? value }
            return value.flatMap { ["dep": true, "most": false][$0] }
        case .dracut:
            let parameters = file(endingWith: "dracut/build-parameter.txt") ?? ""
            let words = parameters.split { " \t\n'\"".contains($0) }
            if words.contains("--no-hostonly") || words.contains("-N") { return false }
            if words.contains("--hostonly") || words.contains("-H") { return true }
            return names.contains { $0.hasSuffix("dracut/hostonly-kernel-modules.txt") }
        case .mkinitcpio, .unknown: return nil
        }
    }

    /// The module names for a kernel version.
    package func modules(for version: String) -> Set<String> { modules[version] ?? [] }

    /// Whether there is an entry of that name, or one inside a folder of that name.
    package func hasFolder(_ suffix: String) -> Bool {
        ["\(suffix)", "usr/\(suffix)"].contains(where: names.contains)
    }

    /// The text of the kept file whose name ends so.
    package func file(endingWith suffix: String) -> String? {
        files.first { $0.key.hasSuffix(suffix) }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// Whether a file's contents are kept: those that name the generator, and those that refer to disks.
    static func isWanted(_ name: String) -> Bool {
        let isConfiguration = ["conf/conf.d/", "etc/cmdline.d/"].contains(where: name.hasPrefix)
        return isConfiguration || wanted.contains(name)
    }

    private static let wanted: Set<String> = [
        "conf/initramfs.conf", "cryptroot/crypttab", "etc/crypttab", "etc/mdadm/mdadm.conf", "etc/mdadm.conf",
        "etc/initrd-release", "usr/lib/initrd-release", "lib/dracut/build-parameter.txt",
        "usr/lib/dracut/build-parameter.txt", "lib/dracut/hostonly-kernel-modules.txt",
        "usr/lib/dracut/hostonly-kernel-modules.txt", "buildconfig", "etc/cmdline",
    ]

    /// Adds an entry.
    mutating func add(_ name: String) {
        guard !name.isEmpty, names.insert(name).inserted else { return }
        nameByteCount += name.utf8.count
        let parts = name.split(separator: "/")
        guard let last = parts.last, let module = ModuleName(file: last),
            let place = parts.firstIndex(of: "modules"), place + 1 < parts.count - 1
        else { return }
        modules[String(parts[place + 1]), default: []].insert(module.text)
    }

    /// Adds what another file holds that the loader loads with it: Linux unpacks both into one tree.
    package mutating func merge(_ other: Initramfs) {
        names.formUnion(other.names)
        modules.merge(other.modules) { $0.union($1) }
        files.merge(other.files) { _, later in later }
        compressions += other.compressions
    }

    /// Adds the contents of an entry.
    mutating func keep(_ bytes: [UInt8], of name: String) { files[name] = bytes }

    /// The last value of a variable in shell syntax, without quotes.
    static func variable(_ name: String, in bytes: [UInt8]) -> String? {
        var value: String?
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        where line.hasPrefix("\(name)=") {
            value = line.dropFirst(name.count + 1).filter { $0 != "\"" && $0 != "'" }
        }
        return value
    }
}
