// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage
import TestSupport

/// A filesystem on one device according to `btrfs inspect-internal`: the independent view that maps are compared with.
struct BtrfsDump {
    let deviceByteCount: UInt64
    /// All copies of all extents.
    let extents: AllocationMap
    /// The extents, and the ranges that are never allocated: the first MiB, the surroundings of superblocks,
    /// the space behind the end.
    let used: AllocationMap
    let logRoot: UInt64

    init(_ image: FilePath, volumeByteCount: UInt64) throws {
        let inspect = "btrfs inspect-internal"
        let superblock = try Tool.run(["sh", "-c", "\(inspect) dump-super \(image.string)"])
        func number(_ name: String) throws -> UInt64 {
            let line = superblock.split(separator: "\n").first { $0.split(separator: "\t").first == name[...] }
            guard let text = line?.split(separator: "\t").last, let value = UInt64(text) else {
                throw ToolFailure(description: "dump-super names no \(name)")
            }
            return value
        }
        deviceByteCount = try number("dev_item.total_bytes")
        logRoot = try number("log_root")
        let nodeSize = try number("nodesize")
        let chunks = try Self.chunks(
            try Tool.run([
                "sh", "-c", "\(inspect) dump-tree -t chunk \(image.string) | grep -E 'CHUNK_ITEM|length|stripe [0-9]'",
            ]))
        var ranges: [ByteRange] = []
        let lines = try Tool.run([
            "sh", "-c",
            "\(inspect) dump-tree -t extent \(image.string) | grep -E 'item .* (EXTENT|METADATA)_ITEM' | cut -d'(' -f2",
        ])
        for line in lines.split(separator: "\n") {
            let words = line.split(whereSeparator: { " )".contains($0) })
            guard words.count > 2, let start = UInt64(words[0]), let third = UInt64(words[2]) else {
                throw ToolFailure(description: "dump-tree: \(line)")
            }
            let end = start + (words[1] == "METADATA_ITEM" ? nodeSize : third)
            guard let chunk = chunks.last(where: { $0.logical <= start }) else {
                throw ToolFailure(description: "no chunk for \(line)")
            }
            for copy in chunk.copies { ranges.append(copy + start - chunk.logical..<copy + end - chunk.logical) }
        }
        extents = AllocationMap(byteCount: volumeByteCount, unsorted: ranges)
        ranges.append(0..<1 << 20)
        for start in [64 << 20, 256 << 30, 1 << 50] as [UInt64] { ranges.append(start..<start + 65536) }
        ranges.append(deviceByteCount..<max(volumeByteCount, deviceByteCount))
        used = AllocationMap(byteCount: volumeByteCount, unsorted: ranges)
    }

    /// In ascending order.
    private static func chunks(_ text: String) throws -> [(logical: UInt64, copies: [UInt64])] {
        var chunks: [(logical: UInt64, copies: [UInt64])] = []
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { " \t()".contains($0) })
            if let index = words.firstIndex(of: "CHUNK_ITEM"), let start = UInt64(words[index + 1]) {
                chunks.append((start, []))
            } else if words.first == "stripe", let offset = words.last.flatMap({ UInt64($0) }), !chunks.isEmpty {
                chunks[chunks.count - 1].copies.append(offset)
            }
        }
        return chunks
    }
}
