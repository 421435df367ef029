// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// A false segment table: an entry and the checkpoint's count lack a block that has an owner.
@Suite(.enabled(if: Tool.have("mkfs.f2fs", "sload.f2fs", "fsck.f2fs"), "needs f2fs-tools"))
struct F2FSProofTests {
    private static let byteCount = 100 << 20
    private static let sound = Result {
        let bench = try Workbench()
        var random = SeededGenerator(seed: 1)
        let image = try bench.sparseFile("image", byteCount: UInt64(byteCount))
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        try bench.randomTree("tree", files: 40, maximumByteCount: 60_000, using: &random)
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    @Test func aFileWhoseBlockIsCalledFreeIsNamed() throws {
        let (node, _) = try Self.someNode()
        let inode = try node.littleEndian(UInt32.self, at: 4076)
        let addresses = try F2FSReservations.addresses(of: node, isFlexible: false)
        let block = try #require(
            try stride(from: addresses.lowerBound, to: addresses.upperBound, by: 4).lazy.map {
                try node.littleEndian(UInt32.self, at: $0)
            }.first { $0 > 0 && $0 < UInt32.max - 1 })
        try expectContradiction(
            UInt64(block), "inode \(inode) uses block \(block), which its segment table calls free")
    }

    @Test func aNodeWhoseBlockIsCalledFreeIsNamed() throws {
        let (node, block) = try Self.someNode()
        let number = try node.littleEndian(UInt32.self, at: 4072)
        try expectContradiction(block, "node \(number) uses block \(block), which its segment table calls free")
    }

    @Test func countsThatDifferAreContradictions() throws {
        for (field, expected) in [
            (144, "its NAT does not name as many nodes as its checkpoint counts"),
            (148, "its nodes are not as many inodes as its checkpoint counts"),
        ] {
            let bytes = try Self.changingCheckpoint { block in
                block.setLittleEndian(try block.littleEndian(UInt32.self, at: field) + 1, at: field)
            }
            #expect(try VolumeIdentifier.survey(MemoryDisk(bytes)).0.wholeReason == expected)
            #expect(try VolumeIdentifier.survey(MemoryDisk(bytes), trustMaps: true).0.wholeReason == nil)
        }
    }

    /// No node, whatever its content, leads out of the main area or to a trap.
    @Test func hostileNodesDoNotTrap() throws {
        var random = Sample.generator(5900)
        let sound = try Self.sound.get()
        let superblock = try Self.superblock(sound)
        let map = try VolumeIdentifier.survey(MemoryDisk(sound)).1
        let nat = Int(superblock.areas[2] * 4096)
        let (_, block) = try Self.someNode()
        let node = Int(block) * 4096
        var reasons: Set<String> = []
        for _ in 0..<(Sample.isFull ? 2000 : 100) {
            var reader = PatchedReader(sound)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                reader.addRandomPatch(
                    in: [
                        nat..<nat + 400, nat + (2 << 20)..<nat + (2 << 20) + 400, node..<node + 600,
                        node + 4072..<node + 4096,
                    ],
                    using: &random)
            }
            let (info, found) = try VolumeIdentifier.survey(reader)
            #expect(map.isSubset(of: found), "seed \(Sample.seed)")
            reasons.insert(String((info.wholeReason ?? "none").filter { !$0.isNumber }))
        }
        #expect(reasons.count > 2, "seed \(Sample.seed): \(reasons)")
    }

    private func expectContradiction(_ block: UInt64, _ expected: String) throws {
        let sound = try Self.sound.get()
        #expect(try VolumeIdentifier.survey(MemoryDisk(sound)).0.wholeReason == nil)
        let superblock = try Self.superblock(sound)
        var lying = try Self.changingCheckpoint { head in
            head.setLittleEndian(try head.littleEndian(UInt64.self, at: 16) - 1, at: 16)  // valid_block_count
        }
        let (segment, bit) = (block - superblock.main).quotientAndRemainder(dividingBy: 512)
        let (index, entry) = segment.quotientAndRemainder(dividingBy: 55)
        for copy in [0, superblock.segmentCounts[1] / 2 * 512] {
            let place = Int((superblock.areas[1] + index + copy) * 4096 + entry * 74)
            let mask = 0x80 >> UInt8(bit % 8) as UInt8
            guard lying[place + 2 + Int(bit / 8)] & mask != 0 else { continue }
            lying[place + 2 + Int(bit / 8)] &= ~mask
            lying.setLittleEndian(try lying.littleEndian(UInt16.self, at: place) - 1, at: place)
        }
        let (believed, small) = try VolumeIdentifier.survey(MemoryDisk(lying), trustMaps: true)
        #expect(believed.wholeReason == nil && !small.covers(block * 4096..<block * 4096 + 1))
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(lying))
        #expect(info.wholeReason == expected)
        #expect(map == .whole(byteCount: UInt64(Self.byteCount)))
    }

    private static func superblock(_ bytes: [UInt8]) throws -> F2FSSuperblock {
        try #require(try F2FSSuperblock(Array(bytes[1024..<4096])))
    }

    /// The inode of a file with direct addresses, and its block.
    private static func someNode() throws -> ([UInt8], UInt64) {
        let bytes = try sound.get()
        let superblock = try superblock(bytes)
        let map = try VolumeIdentifier.survey(MemoryDisk(bytes)).1
        let end = superblock.main + superblock.mainSegmentCount * 512
        for block in superblock.main..<min(end, UInt64(byteCount / 4096))
        where map.covers(block * 4096..<block * 4096 + 1) {
            let node = Array(bytes[Int(block) * 4096..<Int(block + 1) * 4096])
            let number = try node.littleEndian(UInt32.self, at: 4072)
            guard try number == node.littleEndian(UInt32.self, at: 4076), number > 3, number < 1000,
                node[1] & 0xF0 == 0x80, node[3] & 0x06 == 0, try node.littleEndian(UInt32.self, at: 360) > 0
            else { continue }
            return (node, block)
        }
        throw ToolFailure(description: "no node")
    }

    /// Both blocks of the live pack changed, with correct checksums.
    private static func changingCheckpoint(_ change: (inout [UInt8]) throws -> Void) throws -> [UInt8] {
        var bytes = try sound.get()
        let live = try F2FSCheckpoint.live(MemoryDisk(bytes), superblock(bytes))
        for block in [live.start, live.start + live.blockCount - 1] {
            let range = Int(block) * 4096..<Int(block + 1) * 4096
            var head = Array(bytes[range])
            try change(&head)
            head.setLittleEndian(F2FSCheckpoint.checksum(Array(head[..<4092])), at: 4092)
            bytes.replaceSubrange(range, with: head)
        }
        return bytes
    }
}
