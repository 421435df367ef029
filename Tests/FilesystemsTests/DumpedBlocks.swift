// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The blocks of a filesystem according to `dumpe2fs`: the independent view that maps are compared with.
struct DumpedBlocks {
    let byteCount: UInt64
    /// The used blocks of the filesystem, with the space around it.
    let used: AllocationMap

    init(_ dump: String, volumeByteCount: UInt64) throws {
        func number(_ name: String) throws -> UInt64 {
            let line = dump.split(separator: "\n").first { $0.hasPrefix(name + ":") }
            guard let text = line?.split(separator: " ").last, let value = UInt64(text) else {
                throw ToolFailure(description: "dumpe2fs names no \(name)")
            }
            return value
        }
        let blockSize = try number("Block size")
        let clusterSize = (try? number("Cluster size")) ?? blockSize
        byteCount = try number("Block count") * blockSize
        var free: [ByteRange] = []
        for line in dump.split(separator: "\n") where line.hasPrefix("  Free blocks: ") {
            for part in line.dropFirst("  Free blocks: ".count).split(separator: ",") {
                let ends = part.filter { $0 != " " }.split(separator: "-").compactMap { UInt64($0) }
                guard let first = ends.first, let last = ends.last else { continue }
                // With bigalloc the last number is the first block of the last free cluster.
                free.append(first * blockSize..<min(last * blockSize + clusterSize, byteCount))
            }
        }
        used = AllocationMap(byteCount: volumeByteCount, unsorted: free).complement
    }
}
