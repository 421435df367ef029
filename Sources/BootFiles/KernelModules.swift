// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The modules of one kernel, from the files that depmod(8) makes in /lib/modules/VERSION.
package struct KernelModules: Sendable {
    /// The files' names in that folder that `init` takes. The first must exist.
    package static let fileNames = [
        "modules.dep", "modules.alias", "modules.builtin", "modules.softdep", "modules.builtin.modinfo",
    ]
    /// The greatest length of one of the files, in bytes. modules.alias of Debian: 1.5 MB.
    package static let fileByteCount = 32 << 20
    private static let mostModules = 100_000
    private static let mostAliases = 1_000_000
    /// The steps of one lookup. Debian's modules.alias takes some 100,000.
    private static let mostSteps = 20_000_000

    /// Parts of the file: there are tens of thousands.
    private struct Alias {
        var pattern: ArraySlice<UInt8>
        var module: ArraySlice<UInt8>
    }

    /// The kernel's version.
    package let version: String
    /// The modules by name, with the names of those that each needs (modules.dep: direct and indirect).
    private var dependencies: [String: [String]] = [:]
    /// modules.softdep: what modprobe loads first, as names of modules or aliases.
    private(set) var softDependencies: [String: [String]] = [:]
    private var builtIn: Set<String> = []
    /// By the first bytes of their patterns, up to the first ":".
    private var aliases: [String: [Alias]] = [:]
    /// Aliases of built-in drivers.
    private var builtInAliases: [String: [Alias]] = [:]

    /// - Parameter files: the contents by name, of `fileNames`; missing ones are empty.
    /// - Throws: `BootFileError` if they exceed a limit.
    package init(version: String, files: [String: [UInt8]]) throws(BootFileError) {
        self.version = version
        for line in Self.lines(files["modules.dep"]) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), let module = Self.module(line[..<colon])
            else { continue }
            dependencies[module.text] = Self.words(line[(colon + 1)...]).compactMap { Self.module($0)?.text }
            guard dependencies.count <= Self.mostModules else { throw .tooLarge(what: "it has too many modules") }
        }
        builtIn = Set(Self.lines(files["modules.builtin"]).compactMap { Self.module($0)?.text })
        var count = 0
        for line in Self.lines(files["modules.alias"]) {
            let words = Self.words(line)
            guard words.count == 3, words[0].elementsEqual("alias".utf8) else { continue }
            Self.add(words[1], words[2], to: &aliases)
            count += 1
            guard count <= Self.mostAliases else { throw .tooLarge(what: "it has too many module aliases") }
        }
        for line in Self.lines(files["modules.softdep"]) {
            let words = Self.words(line).map { String(decoding: $0, as: UTF8.self) }
            guard words.count > 2, words[0] == "softdep" else { continue }
            // modprobe.d(5): words after "pre:"; those after "post:", or before both, are not loaded first.
            var isBefore = false
            for word in words.dropFirst(2) {
                if word.hasSuffix(":") {
                    isBefore = word == "pre:"
                } else if isBefore {
                    softDependencies[ModuleName(words[1]).text, default: []].append(word)
                }
            }
        }
        try readBuiltInAliases(files["modules.builtin.modinfo"] ?? [])
    }

    /// modules.builtin.modinfo (Documentation/kbuild/kbuild.rst): `module.alias=pattern`, each ending with a NUL.
    private mutating func readBuiltInAliases(_ bytes: [UInt8]) throws(BootFileError) {
        var count = 0
        for record in bytes.split(separator: 0) {
            guard let equals = record.firstIndex(of: UInt8(ascii: "=")),
                let dot = record[..<equals].firstIndex(of: UInt8(ascii: ".")),
                record[dot..<equals].elementsEqual(".alias".utf8)
            else { continue }
            Self.add(record[(equals + 1)...], record[..<dot], to: &builtInAliases)
            count += 1
            guard count <= Self.mostAliases else { throw .tooLarge(what: "it has too many module aliases") }
        }
    }

    private static func lines(_ bytes: [UInt8]?) -> [ArraySlice<UInt8>] {
        (bytes ?? []).split(separator: UInt8(ascii: "\n")).filter { $0.first != UInt8(ascii: "#") }
    }

    private static func words(_ line: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        line.split(separator: UInt8(ascii: " "))
    }

    private static func module(_ path: ArraySlice<UInt8>) -> ModuleName? {
        let name = path.lastIndex(of: UInt8(ascii: "/")).map { path[($0 + 1)...] } ?? path
        return ModuleName(file: String(decoding: name, as: UTF8.self))
    }

    private static func add(
        _ pattern: ArraySlice<UInt8>, _ module: ArraySlice<UInt8>, to table: inout [String: [Alias]]
    ) {
        table[bus(ModulePattern.prefix(of: pattern)), default: []].append(Alias(pattern: pattern, module: module))
    }

    /// The part of an alias up to the first ":", which no pattern of a device has a special character in.
    private static func bus(_ bytes: some Collection<UInt8>) -> String {
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else { return "" }
        return String(decoding: bytes[..<colon], as: UTF8.self)
    }

    /// Whether nothing is known of the kernel's modules.
    package var isEmpty: Bool { dependencies.isEmpty && builtIn.isEmpty }

    /// Whether the kernel itself holds the module.
    package func isBuiltIn(_ name: String) -> Bool { builtIn.contains(ModuleName(name).text) }

    /// Whether the kernel has the module, as a file or built in.
    package func has(_ name: String) -> Bool {
        let name = ModuleName(name).text
        return dependencies[name] != nil || builtIn.contains(name)
    }

    /// The modules for a device (or `fs-ext4`, `crypto-xts(aes)`), in the order of modules.alias, then built-in ones.
    package func modules(for modalias: String) -> [String] {
        let text = Array(modalias.utf8)
        let bus = Self.bus(text)
        var found: [String] = []
        var budget = Self.mostSteps
        for table in [aliases, builtInAliases] {
            // Patterns with a special character before the first ":" are under "".
            for alias in (table[bus] ?? []) + (bus.isEmpty ? [] : table[""] ?? [])
            where ModulePattern(alias.pattern).matches(text, budget: &budget) {
                let module = ModuleName(String(decoding: alias.module, as: UTF8.self)).text
                if !found.contains(module) { found.append(module) }
            }
        }
        return found
    }

    /// A module with everything that must be loaded with it, itself last; built-in modules are left out.
    package func closure(of name: String) -> [String] {
        var found: [String] = []
        var seen: Set<String> = []
        var pending = [ModuleName(name).text]
        while let next = pending.popLast() {
            guard seen.insert(next).inserted, !builtIn.contains(next) else { continue }
            found.append(next)
            pending += dependencies[next] ?? []
        }
        return found.reversed()
    }

    /// The need of a device: the driver that the running kernel uses, if this kernel has it for the same device; else
    /// any driver that this kernel has for it.
    /// - Returns: `nil` if no driver is needed.
    package func need(of device: DeviceDriver) -> ModuleNeed? {
        guard device.driver != nil || device.module != nil else { return nil }
        let names = [device.module, device.driver].compactMap { $0.map { ModuleName($0).text } }
        let candidates = device.modalias.map(modules(for:)) ?? []
        if let same = names.first(where: candidates.contains) { return ModuleNeed([same], for: device.name) }
        // A driver that the running kernel has built in, and for which this one has no module, is built in there too:
        // PCI bridges, USB's core.
        if device.module == nil {
            // The driver of cards shows no module, also where it is one.
            if device.modalias?.hasPrefix("mmc:") == true, !candidates.isEmpty {
                return ModuleNeed(candidates, for: device.name)
            }
            return names.first(where: has).map { ModuleNeed([$0], for: device.name) }
        }
        if !candidates.isEmpty { return ModuleNeed(candidates, for: device.name) }
        // The names of drivers differ between kernels rarely.
        if let same = names.first(where: has) { return ModuleNeed([same], for: device.name) }
        return ModuleNeed([], for: device.name)
    }

    /// The need of a filesystem by the kernel's name of its type.
    package func need(ofFilesystem type: String) -> ModuleNeed {
        let found = modules(for: "fs-\(type)")
        let names = found.isEmpty && has(type) ? [ModuleName(type).text] : found
        return ModuleNeed(names, for: "the filesystem \(type)")
    }

    /// The need of one module by its name.
    package func need(named name: String, for reason: String) -> ModuleNeed {
        ModuleNeed(has(name) ? [ModuleName(name).text] : [], for: reason)
    }

    /// The needs that a set of modules, such as those of an initramfs, does not meet: no alternative is there with
    /// everything that it depends on. Needs that this kernel cannot meet are among them.
    package func unmet(_ needs: [ModuleNeed], by present: Set<String>) -> [ModuleNeed] {
        needs.filter { need in
            !need.modules.contains { name in closure(of: name).allSatisfy(present.contains) }
        }
    }

    /// The missing modules of the best alternative of each need that this kernel can meet, without duplicates.
    package func missing(_ needs: [ModuleNeed], from present: Set<String>) -> [String] {
        var found: [String] = []
        for need in unmet(needs, by: present) {
            guard let best = need.modules.first else { continue }
            found += closure(of: best).filter { !present.contains($0) && !found.contains($0) }
        }
        return found
    }
}
