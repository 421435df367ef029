// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Reforge's maps compared with the counts of ntfsinfo and the clusters of each file according to ntfscluster.
@Suite(
    .enabled(
        if: SystemFacts.isRoot && Files.exists("/dev/fuse")
            && Tool.have("mkntfs", "ntfs-3g", "ntfsinfo", "ntfscluster", "losetup", "blockdev", "umount"),
        "needs root, /dev/fuse and ntfs-3g"))
struct NTFSInfoTests {
    @Test(arguments: 0..<(Sample.isFull ? 40 : 4)) func mapIsWhatIsNotFree(index: Int) throws {
        var random = Sample.generator(12_700 + index)
        let recipe = NTFSRecipe.random(index, using: &random)
        let bench = try Workbench()
        let image = try bench.agedNTFS(recipe, using: &random)
        let comment: Comment = "seed \(Sample.seed), ntfsinfo \(index): \(recipe)"
        let (info, map) = try bench.survey("image")
        #expect(info.mapSource == .allocationStructures, comment)

        let text = try Tool.run(["ntfsinfo", "-f", "-m", image.string])
        func number(_ name: String) throws -> UInt64 {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\t\(name): ") }
            let words = line?.split(separator: ":").last?.split(separator: " ") ?? []
            return try #require(words.first.flatMap { UInt64($0) }, "\(comment): \(text)")
        }
        let clusterSize = try number("Cluster Size")
        let total = try number("Volume Size in Clusters")
        let free = try number("Free Clusters")
        let end = total * clusterSize
        let used = map.ranges(in: 0..<end).reduce(0) { $0 + $1.byteCount }
        #expect(clusterSize == UInt64(recipe.clusterSize), comment)
        #expect(used == (total - free) * clusterSize, comment)
        // The last sector has the copy of the boot sector: neither it nor the space behind it belongs to a cluster.
        #expect(map.covers(end..<map.byteCount), comment)

        // According to the run lists of the files, without the bitmap: "VCN  LCN-LCN (length)".
        let listing = try Tool.run(["ntfscluster", "-f", "-v", "-c", "0-\(total - 1)", image.string])
        var runs: [ByteRange] = []
        for line in listing.split(separator: "\n") {
            let words = line.split(whereSeparator: { " \t".contains($0) })
            guard words.count == 3, UInt64(words[0]) != nil, words[2].hasPrefix("(") else { continue }
            let ends = words[1].split(separator: "-").compactMap { UInt64($0) }
            guard ends.count == 2 else { throw ToolFailure(description: "ntfscluster: \(line)") }
            runs.append(ends[0] * clusterSize..<(ends[1] + 1) * clusterSize)
        }
        #expect(runs.count > 10, "\(comment): \(listing)")
        var theirs = AllocationMap(byteCount: map.byteCount, unsorted: runs)
        theirs.insert(end..<map.byteCount)
        #expect(theirs.ranges.filter { !map.covers($0) } == [], comment)
        let excess = map.usedByteCount - min(map.usedByteCount, theirs.usedByteCount)
        #expect(excess * 200 <= map.byteCount, comment)
        print("\(comment): \(runs.count) runs, over-approximation \(percent(excess, of: map.byteCount))")
    }
}

extension Workbench {
    /// An NTFS that ntfs-3g filled with a random tree, a compressed and a sparse file, and partly deleted again.
    func agedNTFS(_ recipe: NTFSRecipe, using random: inout SeededGenerator) throws -> FilePath {
        let image = try recipe.make(self)
        let files = try randomTree("tree", files: 60, maximumByteCount: 60_000, using: &random)
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }.map { "'tree/\($0)'" }
        try LoopedNTFS(self, image).mounted(
            "rw,compression",
            """
            mkdir packed && setfattr -h -n system.ntfs_attrib_be -v 0x00000800 packed
            for i in 1 2 3; do yes "a line that is packed $i" | head -c 200000 > packed/$i; done
            truncate -s 30M sparse
            for i in 3 70 1000; do echo text | dd of=sparse bs=4096 seek=$i conv=notrunc status=none; done
            cp -r ../tree . && rm -f \(doomed.joined(separator: " "))
            cp -r ../tree again
            """)
        return image
    }
}
