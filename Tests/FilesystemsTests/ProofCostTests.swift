// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// The cost of proving a map: bytes read beyond those of the survey, relative to the bytes that a first capture reads.
struct ProofCostTests {
    /// Counts the bytes read.
    private final class CountingDisk: BlockReader {
        private let disk: BlockDevice
        let byteCount: UInt64
        let logicalSectorSize = 512
        let name = "counting"
        let readByteCount = Monitor(0 as UInt64)

        init(_ disk: BlockDevice) {
            self.disk = disk
            byteCount = disk.byteCount
        }

        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
            readByteCount.update { $0 += UInt64(buffer.count) }
            try disk.read(into: buffer, at: offset)
        }
    }

    private func expectCost(_ bench: Workbench, _ name: String, atMost limit: UInt64) throws {
        func cost(trustMaps: Bool) throws -> (bytes: UInt64, seconds: Double, used: UInt64) {
            let disk = CountingDisk(try BlockDevice(opening: bench.path("image")))
            let start = SystemFacts.monotonicSeconds()
            let (info, map) = try VolumeIdentifier.survey(disk, trustMaps: trustMaps)
            #expect(info.kindName == name && info.wholeReason == nil)
            return (disk.readByteCount.update { $0 }, SystemFacts.monotonicSeconds() - start, map.usedByteCount)
        }
        let (trusted, proved) = (try cost(trustMaps: true), try cost(trustMaps: false))
        let more = proved.bytes - trusted.bytes
        print(
            "\(name), \(ByteText.rounded(proved.used)) used: survey \(ByteText.rounded(trusted.bytes)) and",
            "\(Int(trusted.seconds * 1000)) ms; proof \(ByteText.rounded(more)) (\(percent(more, of: proved.used))) and",
            "\(Int((proved.seconds - trusted.seconds) * 1000)) ms")
        #expect(more * 100 <= proved.used * limit)
    }

    private func fill(_ bench: Workbench) throws {
        var random = SeededGenerator(seed: 1)
        try bench.randomTree("tree", files: 500, maximumByteCount: 200_000, using: &random)
    }

    @Test(.enabled(if: Tool.canMountXFS, "needs root, loop devices, xfsprogs and a kernel with XFS")) func xfs() throws
    {
        let bench = try Workbench()
        try fill(bench)
        try bench.makeXFS("image", byteCount: 500 << 20)
        try bench.runShell("image", "mount -o loop \"$image\" \"$place\"; cp -r \"$bench/tree\" \"$place/tree\"\n")
        try expectCost(bench, "xfs", atMost: 10)
    }

    /// With snapshots, whose shared blocks are read once.
    @Test(.enabled(if: Workbench.mountsBtrfs, "needs root, loop devices, btrfs in the kernel and btrfs-progs"))
    func btrfs() throws {
        let bench = try Workbench()
        try fill(bench)
        let image = try bench.sparseFile("image", byteCount: 500 << 20)
        try Tool.run(["mkfs.btrfs", "-q", "-f", image.string])
        try bench.inMounted(
            "image",
            """
            btrfs -q subvolume create one; cp -r ../tree one
            for n in 1 2 3 4 5 6 7 8 9; do btrfs -q subvolume snapshot one kept$n; done
            """)
        try expectCost(bench, "btrfs", atMost: 10)
    }

    /// Here the NAT determines the cost; its length depends on the volume, not on the used space.
    @Test(.enabled(if: Tool.have("mkfs.f2fs", "sload.f2fs"), "needs f2fs-tools")) func f2fs() throws {
        let bench = try Workbench()
        try fill(bench)
        let image = try bench.sparseFile("image", byteCount: 200 << 20)
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        try expectCost(bench, "f2fs", atMost: 15)
    }

    @Test(.enabled(if: SystemFacts.isRoot && Tool.have("mkntfs", "ntfs-3g", "losetup"), "needs root and ntfs-3g"))
    func ntfs() throws {
        let bench = try Workbench()
        try fill(bench)
        let image = try bench.sparseFile("image", byteCount: 200 << 20)
        try Tool.run(["mkntfs", "-F", "-f", "-Q", "-q", image.string])
        try LoopedNTFS(bench, image).mounted("rw", "cp -r ../tree tree")
        try expectCost(bench, "ntfs", atMost: 10)
    }
}
