// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Text in aligned columns.
package enum TextTable {
    package static func lines(_ titles: [String], _ rows: [[String]]) -> [String] {
        let all = [titles] + rows
        let widths = titles.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            let cells = row.enumerated().map { column, cell in
                cell + String(repeating: " ", count: widths[column] - cell.count)
            }
            let line = cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
    }

    /// A row for each volume inside a container, its name (`vg/root`) where a partition has its type.
    package static func innerRows(_ container: FilesystemInfo, indent: String) -> [[String]] {
        (container.inner ?? []).flatMap { volume in
            let filesystem = volume.filesystem
            let row = [
                "", ByteText.rounded(volume.byteCount), indent + volume.name, filesystem.kindName,
                filesystem.label ?? "", filesystem.uuid ?? "", volume.usedByteCount.map(ByteText.rounded) ?? "",
                known(filesystem),
            ]
            return [row] + innerRows(filesystem, indent: indent + "  ")
        }
    }

    /// The source of the allocation map, in words.
    package static func known(_ filesystem: FilesystemInfo) -> String {
        switch filesystem.mapSource {
        case .allocationStructures where filesystem.inner != nil: "from the volumes in it"
        case .allocationStructures: "from its allocation map"
        case .headerOnly: "header only"
        case .whole: "whole: \(filesystem.wholeReason ?? "not understood")"
        }
    }
}
