// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import Testing

/// The blocks that partclone would clone: the independent view that maps are compared with.
///
/// `-D` writes the map that `-c` clones by, as ddrescue's domain log: nothing is copied, and no root is needed. The
/// "Space in use" that partclone prints differs: for Btrfs and F2FS it is the superblock's count.
struct PartcloneMap {
    /// The length of the filesystem according to partclone: whole blocks.
    let byteCount: UInt64
    let used: AllocationMap

    /// - Parameter kind: as in `partclone.KIND`.
    init(_ kind: String, _ bench: Workbench, _ image: FilePath, volumeByteCount: UInt64) throws {
        // Without -f 0 it sleeps for two seconds; an existing log would keep its tail.
        let log = bench.path("domain-\(kind)")
        if Files.exists(log) { try Files.remove(log) }
        try Tool.run([
            "partclone.\(kind)", "-D", "-s", image.string, "-o", log.string, "-L", "/dev/null", "-q", "-f", "0",
        ])
        var end: UInt64 = 0
        var total: UInt64?
        var ranges: [ByteRange] = []
        for line in String(decoding: try Files.read(log), as: UTF8.self).split(separator: "\n") {
            guard line.hasPrefix("0x") else { continue }
            let words = line.split(separator: " ")
            let numbers = words.compactMap { UInt64($0.dropFirst(2), radix: 16) }
            if words.count == 2, numbers.count == 1 {
                // Its position: at the end.
                total = numbers[0]
            } else if words.count == 3, numbers.count == 2, numbers[0] == end {
                end += numbers[1]
                if words[2] == "+" { ranges.append(numbers[0]..<end) }
            } else {
                throw ToolFailure(description: "partclone.\(kind): \(line)")
            }
        }
        guard end > 0, end == total else {
            throw ToolFailure(description: "partclone.\(kind) maps \(end) bytes of \(total ?? 0)")
        }
        byteCount = end
        used = AllocationMap(byteCount: volumeByteCount, unsorted: ranges)
    }

    /// Expects a map to contain all of this, and hardly more.
    /// - Parameters:
    ///   - others: ranges that are used too, and that partclone omits.
    ///   - unused: ranges that partclone clones, and that are unused.
    func expectHeld(
        by map: AllocationMap, others: [ByteRange] = [], unused: AllocationMap? = nil, _ comment: Comment
    ) {
        let kept = unused.map { AllocationMap(byteCount: map.byteCount, unsorted: used.without($0)) } ?? used
        #expect(kept.ranges.filter { !map.covers($0) } == [], comment)
        #expect(map.usedByteCount >= kept.usedByteCount, comment)
        var known = used
        // Bytes of a partial block, and all behind the end, count as used here.
        for range in others + [byteCount..<max(byteCount, map.byteCount)] { known.insert(range) }
        var both = known
        both.insert(contentsOf: map)
        let excess = both.usedByteCount - known.usedByteCount
        #expect(excess * 200 <= byteCount, comment)
        print(
            "\(comment): partclone clones \(percent(used.usedByteCount, of: byteCount)), over-approximation",
            percent(excess, of: byteCount))
    }
}

extension AllocationMap {
    /// The ranges that are used here and not in `other`.
    func without(_ other: AllocationMap) -> [ByteRange] {
        let rest = other.complement
        return ranges.flatMap { rest.ranges(in: $0) }
    }
}
