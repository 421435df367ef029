// SPDX-License-Identifier: GPL-3.0-or-later

/// A configuration file of SYSLINUX (SYSLINUX, doc/syslinux.txt, "CONFIGURATION FILE FORMAT").
package struct ExtlinuxConfiguration: Codable, Equatable, Sendable {
    /// An entry that starts a kernel.
    package struct Entry: Codable, Equatable, Sendable {
        package var label: String
        /// The kernel, as written.
        package var kernel: String?
        /// The initramfs files, as written.
        package var initramfs: [String] = []
        /// The references to devices in its command line.
        package var words: [DeviceWord] = []
        /// The files that it names and that do not exist.
        package var missing: [String] = []

        /// Whether it starts a kernel, not another program of SYSLINUX.
        var startsKernel: Bool {
            guard let kernel = kernel?.lowercased() else { return false }
            return ![".c32", ".com", ".cbt", ".0", ".bin", ".bss", ".img"].contains { kernel.hasSuffix($0) }
        }
        var files: [String] { [kernel].compactMap { $0 } + initramfs }
    }

    /// Its path in the installed system.
    package var path: String
    package var entries: [Entry] = []
    /// The files that it includes, as written.
    package var includes: [String] = []
    /// Whether lines end as in Unix: only then, words are replaced.
    package var isEditable: Bool

    /// Upper bounds on the length of a file in bytes, and on its entries.
    static let largestFile = 1 << 18
    private static let mostEntries = 256

    package init(_ text: String, path: String) {
        self.path = path
        isEditable = !text.unicodeScalars.contains("\r")
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.split(whereSeparator: WordChange.isBlank)
            guard let keyword = words.first?.lowercased(), !keyword.hasPrefix("#"), words.count > 1 else { continue }
            let values = words.dropFirst().map(String.init)
            if keyword == "label" {
                guard entries.count < Self.mostEntries else { return }
                entries.append(Entry(label: values.joined(separator: " ")))
            } else if keyword == "include" || keyword == "menu" && values[0].lowercased() == "include" {
                includes += values.suffix(1)
            } else if !entries.isEmpty {
                take(keyword, values, line, number)
            } else if keyword == "append" {
                // Of all labels without their own.
                entries.append(Entry(label: ""))
                take(keyword, values, line, number)
            }
        }
        entries.removeAll { $0.kernel == nil && $0.words.isEmpty }
    }

    private mutating func take(_ keyword: String, _ values: [String], _ line: Substring, _ number: Int) {
        let last = entries.count - 1
        switch keyword {
        case "kernel", "linux": entries[last].kernel = values[0]
        case "initrd": entries[last].initramfs += values[0].split(separator: ",").map(String.init)
        case "append":
            entries[last].words += KernelArguments.words(in: line, line: number, from: 1)
            for value in values where value.lowercased().hasPrefix("initrd=") {
                entries[last].initramfs += value.dropFirst(7).split(separator: ",").map(String.init)
            }
        default: break
        }
    }
}
