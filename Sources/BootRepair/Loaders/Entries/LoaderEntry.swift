// SPDX-License-Identifier: GPL-3.0-or-later

/// An entry of the boot menu in a file of its own (uapi-group.org/specifications, "The Boot Loader Specification",
/// type #1): of systemd-boot, and of GRUB's `blscfg`.
package struct LoaderEntry: Codable, Equatable, Sendable {
    /// The file. `place` is the partition that holds it.
    package var file: TreePath
    /// The number of the partition or volume that holds it, and the files that it names.
    package var partition: Int
    package var title: String?
    package var version: String?
    package var machineID: String?
    /// The kernel, a path in its partition.
    package var kernel: String?
    /// An EFI program or a unified kernel image, a path in its partition.
    package var program: String?
    /// The initramfs files, paths in its partition.
    package var initramfs: [String]
    /// The references to devices in its options.
    package var words: [DeviceWord]
    /// The line of the first options, from 0; `nil` if there are none.
    package var optionsLine: Int?
    /// Whether lines end as in Unix: only then, words are replaced.
    package var isEditable: Bool
    /// The files that it names and that do not exist.
    package var missing: [String] = []
    /// Whether it is the surveyed system's; `nil` if that is unknown.
    package var isOwn: Bool?
    /// Its kernel and what its initramfs holds; `nil` if they were not looked at.
    package var contents: InstalledSystem.Kernel?

    /// Upper bound on the length of a file in bytes.
    static let largestFile = 1 << 16

    /// Parses an entry. Unknown keys are ignored, as the specification demands.
    package init(_ text: String, file: TreePath, partition: Int) {
        self.file = file
        self.partition = partition
        initramfs = []
        words = []
        isEditable = !text.unicodeScalars.contains("\r")
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let parts = line.split(maxSplits: 1, whereSeparator: WordChange.isBlank)
            guard let key = parts.first, !key.hasPrefix("#"), parts.count == 2 else { continue }
            var value = parts[1].drop(while: WordChange.isBlank)
            while value.last.map(WordChange.isBlank) == true { value.removeLast() }
            switch key {
            case "title": title = String(value)
            case "version": version = String(value)
            case "machine-id": machineID = value.lowercased()
            case "linux": kernel = String(value)
            case "efi", "uki": program = String(value)
            // GRUB's blscfg accepts several in one line.
            case "initrd": initramfs += value.split(whereSeparator: WordChange.isBlank).map(String.init)
            case "options":
                optionsLine = optionsLine ?? number
                words += KernelArguments.words(in: line, line: number, from: 1)
            default: break
            }
        }
        // systemd-boot passes `initrd=` to the kernel's stub; variables of GRUB are no paths.
        initramfs.removeAll { $0.hasPrefix("$") }
    }

    /// All options of an entry in one line; `nil` if it has none.
    static func options(_ text: String) -> String? {
        let values = text.split(whereSeparator: \.isNewline).compactMap { line -> String? in
            let words = line.split(whereSeparator: WordChange.isBlank)
            return words.first == "options" ? words.dropFirst().joined(separator: " ") : nil
        }
        return values.isEmpty ? nil : values.joined(separator: " ")
    }

    /// The file's name without its ending, which systemd-boot shows and compares with `default`.
    package var name: String {
        let name = file.path.split(separator: "/").last.map(String.init) ?? file.path
        return name.hasSuffix(".conf") ? String(name.dropLast(5)) : name
    }

    /// The paths that must exist for it to start.
    var files: [String] { [kernel, program].compactMap { $0 } + initramfs }

    /// Whether it names its root itself; otherwise systemd finds it by its partition's type.
    var namesRoot: Bool { words.contains { $0.use == .root } }
}
