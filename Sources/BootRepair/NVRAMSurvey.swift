// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// One boot entry of the firmware.
package struct NVRAMEntry: Codable, Equatable, Sendable {
    /// Its number, four hexadecimal digits.
    package var number: String
    /// Whether firmware may use it.
    package var isActive: Bool
    /// Its name in the firmware's menu.
    package var label: String
    /// The partition that it points to (PARTUUID); `nil` if it is no file on a GPT disk.
    package var partitionGUID: GUID?
    /// The file, with backslashes.
    package var path: String?

    /// Describes an entry.
    package init(number: String, isActive: Bool = true, label: String, partitionGUID: GUID? = nil, path: String? = nil)
    {
        self.number = number
        self.isActive = isActive
        self.label = label
        self.partitionGUID = partitionGUID
        self.path = path
    }
}

/// The firmware's boot entries, as efibootmgr prints them.
package struct NVRAMSurvey: Codable, Equatable, Sendable {
    /// The entries.
    package var entries: [NVRAMEntry]
    /// The numbers in boot order.
    package var bootOrder: [String]
    /// GUIDs of the partitions of all attached disks.
    package var attachedPartitions: [GUID]
    /// The reason they could not be read.
    package var problem: String?

    /// Describes the firmware's boot entries.
    package init(
        entries: [NVRAMEntry] = [], bootOrder: [String] = [], attachedPartitions: [GUID] = [], problem: String? = nil
    ) {
        self.entries = entries
        self.bootOrder = bootOrder
        self.attachedPartitions = attachedPartitions
        self.problem = problem
    }

    /// Parses the output of `efibootmgr -v`. Version 17 writes `HD(2,GPT,guid,0x1000,0x20000)/File(\EFI\…)`, version 18
    /// writes `…/\EFI\…`; optional data follows the path in both.
    package init(efibootmgr text: String) {
        self.init()
        for line in text.split(separator: "\n") {
            if line.hasPrefix("BootOrder:") {
                bootOrder = line.dropFirst(10).split(separator: ",").map { $0.uppercased().filter { $0 != " " } }
            } else if let entry = Self.entry(line) {
                entries.append(entry)
            }
        }
    }

    private static func entry(_ line: Substring) -> NVRAMEntry? {
        guard line.hasPrefix("Boot") else { return nil }
        let number = line.dropFirst(4).prefix(4)
        let rest = line.dropFirst(8)
        guard number.count == 4, number.allSatisfy(\.isHexDigit), let mark = rest.first, mark == "*" || mark == " "
        else { return nil }
        let fields = rest.dropFirst(2).split(separator: "\t", maxSplits: 1)
        guard let label = fields.first else { return nil }
        var entry = NVRAMEntry(number: number.uppercased(), isActive: mark == "*", label: String(label))
        guard fields.count == 2 else { return entry }
        let place = fields[1]
        if let start = place.indexAfter("HD(") {
            let parts = place[start...].prefix { $0 != ")" }.split(separator: ",")
            if parts.count >= 3, parts[1] == "GPT" { entry.partitionGUID = GUID(parts[2]) }
        }
        if let start = place.indexAfter(")/File(") {
            entry.path = String(place[start...].prefix { $0 != ")" })
        } else if let start = place.indexAfter(")/\\") {
            let path = place[place.index(before: start)...]
            // Optional data follows without a separator: the path ends with `.efi`.
            let end = path.lowercased().firstRange(of: ".efi")
            entry.path = String(end.map { path.prefix($0.upperBound) } ?? path)
        }
        return entry
    }

    /// The entry that starts `path` of the partition, ignoring case.
    package func entry(for path: String, on partition: GUID) -> NVRAMEntry? {
        entries.first { $0.partitionGUID == partition && $0.path?.lowercased() == path.lowercased() }
    }
}

extension Substring {
    /// The index after the first occurrence of `pattern`.
    fileprivate func indexAfter(_ pattern: String) -> Index? {
        var position = startIndex
        while position < endIndex {
            if self[position...].hasPrefix(pattern) { return index(position, offsetBy: pattern.count) }
            position = index(after: position)
        }
        return nil
    }
}

extension String {
    /// The range of the first occurrence of `pattern`, in characters.
    fileprivate func firstRange(of pattern: String) -> Range<Int>? {
        let end = Substring(self).indexAfter(pattern)
        return end.map { distance(from: startIndex, to: $0) }.map { $0 - pattern.count..<$0 }
    }
}
