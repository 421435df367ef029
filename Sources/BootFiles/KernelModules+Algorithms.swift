// SPDX-License-Identifier: GPL-3.0-or-later

/// Modules that a kernel asks for while it runs, which modules.dep does not name: algorithms of its crypto API.
extension KernelModules {
    /// Upper bound on the algorithms of a cipher: its text is from a captured disk.
    private static let mostAlgorithms = 8

    /// Words of a cipher that are not algorithms: the prefix of the crypto API's own notation, and what makes the
    /// initialization vectors (Documentation/admin-guide/device-mapper/dm-crypt.rst).
    private static let noAlgorithms: Set<String> = [
        "capi", "plain", "plain64", "plain64be", "benbi", "null", "lmk", "tcw", "random", "eboiv", "elephant",
    ]

    /// The needs of dm-crypt for a cipher such as `aes-xts-plain64` or `capi:xts(aes)-essiv:sha256`. An algorithm that
    /// this kernel does not know by that name is left out: the kernel may make it from others.
    package func needs(ofCipher cipher: String) -> [ModuleNeed] {
        let words = cipher.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init)
        return words.filter { !Self.noAlgorithms.contains($0) }.prefix(Self.mostAlgorithms).flatMap { word in
            guard let need = need(ofSoftDependency: "crypto-\(word)", for: "the cipher \(cipher)") else {
                return [] as [ModuleNeed]
            }
            return [need] + need.modules.prefix(1).flatMap { softNeeds(of: $0, for: need.reason) }
        }
    }

    /// The needs of a module and of those that it depends on, by modules.softdep ("pre:"). A kernel that asks for one of
    /// them in vain cannot mount the filesystem, or open the volume.
    package func softNeeds(of name: String, for reason: String) -> [ModuleNeed] {
        // In the order of modprobe; a built-in module has soft dependencies, too.
        let modules = closure(of: name) + (isBuiltIn(name) ? [ModuleName(name).text] : [])
        var needs: [ModuleNeed] = []
        for wanted in modules.flatMap({ softDependencies[$0] ?? [] }) {
            // Btrfs names all of its checksums. A filesystem has one: CRC-32C, unless it was made otherwise.
            if name == "btrfs", !wanted.hasSuffix("crc32c") { continue }
            guard let need = need(ofSoftDependency: wanted, for: reason), !needs.contains(need) else { continue }
            needs.append(need)
        }
        return needs
    }

    /// - Returns: `nil` if this kernel does not know it.
    private func need(ofSoftDependency name: String, for reason: String) -> ModuleNeed? {
        let found = has(name) ? [ModuleName(name).text] : modules(for: name).filter(has)
        // One for every processor comes first: it is the one to be named where all are missing.
        let generic = found.filter { $0.hasSuffix("_generic") }
        let all = generic + found.filter { !generic.contains($0) }
        return all.isEmpty ? nil : ModuleNeed(all, for: reason)
    }
}
