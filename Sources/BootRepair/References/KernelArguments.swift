// SPDX-License-Identifier: GPL-3.0-or-later

/// The references to devices in a kernel command line (kernel-parameters.txt, dracut.cmdline(7),
/// systemd-cryptsetup-generator(8), mkinitcpio's hook `encrypt`).
enum KernelArguments {
    /// Upper bound on the words of a line that are looked at.
    private static let mostWords = 512

    /// The words of a line of text with a reference.
    /// - Parameters:
    ///   - line: the number of the line, from 0.
    ///   - firstWord: the first word that is an argument.
    static func words(in text: some StringProtocol, line: Int, from firstWord: Int = 0) -> [DeviceWord] {
        let words = text.split(whereSeparator: WordChange.isBlank).prefix(mostWords)
        return words.enumerated().dropFirst(firstWord).compactMap { index, word in
            guard let (use, value) = reference(in: String(word)) else { return nil }
            return DeviceWord(line: line, word: index, text: String(word), use: use, value: value)
        }
    }

    /// The use and the reference of an argument; `nil` if it names no device.
    ///
    /// Quotes around it are not part of the reference, nor is what precedes the first argument in /etc/default/grub:
    /// `GRUB_CMDLINE_LINUX="root=…`.
    static func reference(in word: String) -> (use: DeviceWord.Use, value: String)? {
        var argument = word[...]
        if argument.hasPrefix("GRUB_CMDLINE_LINUX"), let equals = argument.firstIndex(of: "=") {
            argument = argument[argument.index(after: equals)...]
        }
        argument = argument.drop { $0 == "\"" || $0 == "'" }
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        let key = argument[..<equals].lowercased()
        var value = argument[argument.index(after: equals)...]
        value = value.drop { $0 == "\"" || $0 == "'" }.prefix { $0 != "\"" && $0 != "'" }
        guard !value.isEmpty else { return nil }
        switch key {
        case "root", "real_root": return (.root, String(value))
        case "resume": return (.resume, String(value))
        case "mount.usr", "usr": return (.other, String(value))
        case "rd.luks.uuid", "luks.uuid", "rd_luks_uuid":
            // dracut.cmdline(7): an optional prefix `luks-`, and a prefix of the UUID is enough.
            return (.encrypted, String(value.hasPrefix("luks-") ? value.dropFirst(5) : value))
        case "rd.luks.name", "luks.name": return (.encrypted, String(value.prefix { $0 != "=" }))
        case "rd.lvm.lv": return (.logicalVolume, String(value))
        case "rd.md.uuid": return (.array, String(value))
        case "cryptdevice":
            // device:name[:options]; a device may be a path with colons (by-path), escaped or not: the name has none.
            let parts = value.split(separator: ":", omittingEmptySubsequences: false)
            return parts.count < 2 ? nil : (.encrypted, String(parts[0]))
        default: return nil
        }
    }
}
