// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// GRUB's names of partitions in a menu that count in another kind of table than the disk has: `(hd0,msdos5)` on a GPT.
/// A restore that replaces an MBR by a GPT keeps the numbers.
enum GrubTableNames {
    /// The changes of a grub.cfg that name the partitions of a disk with a GPT.
    ///
    /// Only in entries that are this disk's: they search for one of its filesystems, or start its root. Other entries
    /// may be of systems on other disks.
    static func changes(in text: String, volumes: [BootVolume], rootPartition: Int) -> [WordChange] {
        let root = volumes.first { $0.number == rootPartition }
        let numbers = Set(volumes.filter(\.isPartition).map(\.number))
        var changes: [WordChange] = []
        var entry: [WordChange] = []
        var isOwn = false
        func end() {
            if isOwn { changes += entry }
            (entry, isOwn) = ([], false)
        }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (line, content) in lines.enumerated() {
            let words = content.split(whereSeparator: WordChange.isBlank)
            guard let command = words.first, !command.hasPrefix("#") else { continue }
            if command == "menuentry" || command == "submenu" { end() }
            for (index, word) in words.enumerated() {
                if let new = renamed(word, numbers) {
                    entry.append(WordChange(line: line, word: index, from: String(word), to: new))
                }
                let plain = word.filter { $0 != "\"" && $0 != "'" }
                if command == "search" || command == "search.fs_uuid" {
                    let isHere = volumes.contains { $0.uuid?.lowercased() == plain.lowercased() && !plain.isEmpty }
                    if isHere { isOwn = true }
                } else if command.hasPrefix("linux"), plain.hasPrefix("root="), let root {
                    let reference = BootReference(plain.dropFirst(5)[...])
                    if reference.names(root) { isOwn = true }
                    if case .device(let path) = reference, DevicePartitionName(path)?.number == rootPartition {
                        isOwn = true
                    }
                }
            }
        }
        end()
        return changes
    }

    /// The word with `,msdosN` as `,gptN`; `nil` if it names no partition of the disk.
    private static func renamed(_ word: Substring, _ numbers: Set<Int>) -> String? {
        let mark = ",msdos"
        var result = ""
        var rest = word[...]
        var isChanged = false
        while let range = rest.range(of: mark) {
            result += rest[..<range.lowerBound]
            rest = rest[range.upperBound...]
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            if let number = Int(digits), numbers.contains(number) {
                result += ",gpt"
                isChanged = true
            } else {
                result += mark
            }
        }
        return isChanged ? result + rest : nil
    }
}

extension Substring {
    /// The first occurrence of a text.
    fileprivate func range(of text: String) -> Range<Index>? {
        var position = startIndex
        while position < endIndex {
            if self[position...].hasPrefix(text) { return position..<index(position, offsetBy: text.count) }
            position = index(after: position)
        }
        return nil
    }
}

extension FindingCode {
    static let grubMBRNames = FindingCode(
        "grub-mbr-names", .configuration, .mayStop,
        "GRUB's menu names partitions by their numbers in an MBR, and the disk has a GPT",
        fix: "Boot repair writes the names in the GPT")
}
