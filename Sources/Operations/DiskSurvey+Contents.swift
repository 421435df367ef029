// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

extension DiskSurvey {
    /// Whether nothing known is on the disk: no partition and no filesystem.
    var isBlank: Bool {
        guard volumes.allSatisfy({ $0.filesystem.kind == .unknown }) else { return false }
        return switch table.kind {
        case .none: true
        case .gpt, .mbr: table.partitions.isEmpty
        // Another kind of table is something.
        case .unknown: false
        }
    }

    /// Whether the disk has boot code or boot loaders.
    var holdsSystem: Bool { boot.biosBootCode != nil || !boot.efiLoaders.isEmpty }

    /// The contents of the disk in one line, for a person who compares two disks.
    var contents: String {
        let kind =
            switch table.kind {
            case .gpt: "GPT"
            case .mbr: "MBR"
            case .unknown: table.unknownKindName ?? "an unknown partition table"
            case .none: "no partition table"
            }
        // Upper bound on the listed volumes: the line must stay readable.
        let shown = volumes.prefix(8).map { volume in
            let label = volume.filesystem.label.map { " \"\($0.printable)\"" } ?? ""
            let number = volume.partition.map { "\($0.number) " } ?? ""
            return "\(number)\(volume.filesystem.kindName)\(label) \(ByteText.rounded(volume.range.byteCount))"
        }
        let more = volumes.count > shown.count ? ["and \(volumes.count - shown.count) more"] : []
        let loaders = boot.efiLoaders.isEmpty ? [] : ["EFI boot loaders"]
        let code = boot.biosBootCode.map { ["BIOS boot code (\($0))"] } ?? []
        return isBlank ? "nothing known (\(kind))" : ([kind] + shown + more + loaders + code).joined(separator: ", ")
    }
}
