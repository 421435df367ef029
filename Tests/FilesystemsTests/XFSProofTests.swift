// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// False free space: both trees and the count of a group mark a block as free that has an
/// owner, with correct checksums.
@Suite(.enabled(if: Tool.have("mkfs.xfs", "xfs_db"), "needs xfsprogs"))
struct XFSProofTests {
    @Test(arguments: [4, 5]) func aFileWhoseBlockIsCalledFreeIsNamed(version: Int) throws {
        try expectContradiction(try (version == 4 ? XFSFixture.version4 : XFSFixture.version5).get())
    }

    /// Extents in a tree, with and without reverse mappings.
    @Test(.enabled(if: Tool.canMountXFS, "needs root, loop devices and a kernel with XFS"), arguments: [0, 1])
    func aFileInManyPiecesIsNamed(rmapbt: Int) throws {
        let bench = try Workbench()
        let image = try bench.makeXFS(
            "image", byteCount: UInt64(XFSFixture.byteCount),
            ["-d", "agcount=2", "-b", "size=1024", "-m", "rmapbt=\(rmapbt)", "-l", "size=6m"])
        try bench.runShell(
            "image",
            "mount -o loop \"$image\" \"$place\"\n" + XFSFixture.punchedFile("holes", holes: 400)
                // Blocks of the free list are behind it, where there are reverse mappings.
                + (rmapbt == 1 ? "xfs_io -f -c 'pwrite -q 0 64k' -c fsync \"$place/after\"\n" : ""))
        try expectContradiction(
            try BlockDevice(opening: image).readBytes(at: 0, count: XFSFixture.byteCount))
    }

    /// Inodes, the trees that lead to them, and extended attributes are owners too.
    @Test func unsoundOwnersAreContradictions() throws {
        let fixture = try XFSFixture.version5.get()
        let (number, place) = try XFSFixture.someFile(fixture)
        func reason(isMended: Bool = true, _ change: (inout PatchedReader) throws -> Void) throws -> String? {
            var reader = PatchedReader(fixture)
            try change(&reader)
            if isMended {
                try XFSFixture.mend(&reader, at: place, count: 512, field: XFSChecksum.inodeOffset)
                try XFSFixture.mend(&reader, at: 1024, count: 512, field: XFSChecksum.inodeHeaderOffset)
            }
            let trusted = try VolumeIdentifier.survey(reader, trustMaps: true).0
            #expect(trusted.wholeReason == nil && trusted.mapSource == .allocationStructures)
            return try VolumeIdentifier.survey(reader).0.wholeReason
        }
        #expect(try reason { _ in } == nil)
        #expect(try reason(isMended: false) { $0.flip(place + 70) } == "the checksum of inode \(number) is wrong")
        #expect(try reason { try $0.change(place + 5, by: 5) } == "inode \(number) is not valid")
        #expect(try reason { try $0.change(place + 79, by: 77) } == "inode \(number) is not valid")
        // An extent of no blocks, and one outside.
        #expect(
            try reason { $0.patches.append((place + 176 + 13, [0, 0, 0])) }
                == "an extent of inode \(number) is not valid")
        #expect(
            try reason { $0.patches.append((place + 176 + 9, [0xFF])) } == "an extent of inode \(number) is not valid")
        #expect(
            try reason { try $0.change(1024 + 19, by: 64) }
                == "its inode tree contradicts the inodes that are counted for its group 0")
        #expect(
            try reason(isMended: false) { $0.flip(1024 + 19) }
                == "the checksum of the header of the inodes of its allocation group 0 is wrong")
    }

    /// Whatever their content: no trap, and never a map that omits more than the valid one.
    @Test func hostileOwnersDoNotTrap() throws {
        var random = Sample.generator(5600)
        let fixtures =
            try [XFSFixture.version4.get(), XFSFixture.version5.get()]
            + (Tool.canMountXFS ? [XFSFixture.fragmented.get()] : [])
        for fixture in fixtures {
            let superblock = try #require(try XFSSuperblock(fixture))
            let size = Int(superblock.inodeSize)
            let (_, place) = try XFSFixture.someFile(fixture)
            let chunk = place / (64 * size) * 64 * size
            let sound = try VolumeIdentifier.survey(PatchedReader(fixture)).1
            var reasons: Set<String> = []
            for _ in 0..<(Sample.isFull ? 2000 : 150) {
                var reader = PatchedReader(fixture)
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    reader.addRandomPatch(in: [1024..<1536, chunk..<chunk + 64 * size], using: &random)
                }
                try XFSFixture.mend(&reader, at: 1024, count: 512, field: XFSChecksum.inodeHeaderOffset)
                if superblock.hasChecksums {
                    for index in 0..<64 {
                        try XFSFixture.mend(
                            &reader, at: chunk + index * size, count: size, field: XFSChecksum.inodeOffset)
                    }
                }
                let (info, map) = try VolumeIdentifier.survey(reader)
                #expect(sound.isSubset(of: map), "seed \(Sample.seed)")
                reasons.insert(info.wholeReason ?? "none")
            }
            #expect(reasons.count > 3, "seed \(Sample.seed): \(reasons)")
        }
    }

    /// The false map is accepted without the proof; with it, the result names the owner, as in `xfs_db`.
    private func expectContradiction(_ fixture: [UInt8]) throws {
        #expect(try VolumeIdentifier.survey(MemoryDisk(fixture)).0.wholeReason == nil)
        let (bytes, block) = try XFSFixture.withLie(fixture, group: 0)
        let bench = try Workbench()
        try bench.write(fixture, to: bench.path("sound"))
        let superblock = try #require(try XFSSuperblock(fixture))
        let place = UInt64(block) * UInt64(superblock.blockSize)
        let use = try Tool.run([
            "xfs_db", "-r", "-c", "blockget -n", "-c", "fsblock \(block)", "-c", "blockuse", bench.path("sound").string,
        ])
        let owner = try #require(
            use.split(separator: "\n").last?.split(separator: " ").last.flatMap { UInt64($0) }, "\(use)")
        #expect(use.contains("data inode \(owner)") || use.contains("data)"), "\(use)")

        let (believed, small) = try VolumeIdentifier.survey(MemoryDisk(bytes), trustMaps: true)
        #expect(believed.wholeReason == nil && !small.covers(place..<place + 1))
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(
            info.wholeReason
                == "inode \(owner) uses block \(block) of allocation group 0, which its free-space trees call free")
        #expect(map == .whole(byteCount: UInt64(bytes.count)))
    }
}

extension XFSFixture {
    /// The inode of a file with one extent in the first group, and its place.
    static func someFile(_ bytes: [UInt8]) throws -> (number: UInt64, place: Int) {
        guard let superblock = try XFSSuperblock(bytes) else { throw ToolFailure(description: "no XFS") }
        let header = try XFSInodeHeader(Array(bytes[1024..<1536]), number: 0, of: superblock)
        var tree = XFSTree(MemoryDisk(bytes), superblock, .inodes, .group(0), name: "inodes")
        var found: [UInt64] = []
        try tree.walk(root: UInt64(header.inodes.block), levelCount: header.inodes.levelCount) {
            visit throws(FilesystemError) in
            guard case .record(let leaf, let place) = visit else { return }
            for run in try XFSInodeChunk(leaf, at: place, of: superblock).runs { found += run }
        }
        let size = Int(superblock.inodeSize)
        for number in found {
            let raw = Array(bytes[Int(number) * size..<(Int(number) + 1) * size])
            guard raw[2] >> 4 == 8, let inode = try XFSInode(raw, number: number, of: superblock) else { continue }
            switch inode.data {
            case .extents(let extents) where extents.count == 1: return (number, Int(number) * size)
            case .tree: return (number, Int(number) * size)
            default: continue
            }
        }
        throw ToolFailure(description: "no file")
    }

    /// The filesystem whose free space also contains the block before the largest free extent of a group, in both
    /// trees and in the count; and that block, inside the group.
    static func withLie(_ fixture: [UInt8], group number: UInt32) throws -> (bytes: [UInt8], block: UInt32) {
        var bytes = fixture
        guard let superblock = try XFSSuperblock(bytes) else { throw ToolFailure(description: "no XFS") }
        let header = Int(superblock.offset(ofGroup: UInt64(number))) + Int(superblock.sectorSize)
        let group = try XFSAllocationGroup(
            Array(bytes[header..<header + Int(superblock.sectorSize)]), number: number, of: superblock)
        func records(_ kind: XFSTree.Kind, _ root: XFSAllocationGroup.Root) throws -> [(place: Int, UInt32, UInt32)] {
            var tree = XFSTree(MemoryDisk(bytes), superblock, kind, .group(number), name: "free space")
            var found: [(place: Int, UInt32, UInt32)] = []
            var leaf = 0
            try tree.walk(root: UInt64(root.block), levelCount: root.levelCount) { visit throws(FilesystemError) in
                switch visit {
                case .block(let range): leaf = Int(range.lowerBound)
                case .record(let block, let place):
                    found.append(
                        try FilesystemError.parsing { () throws(ParsingError) in
                            (leaf + place, try block.bigEndian(at: place), try block.bigEndian(at: place + 4))
                        })
                }
            }
            return found
        }
        let largest = try records(.freeSpaceBySize, group.bySize).last
        guard let largest else { throw ToolFailure(description: "no free space") }
        let same = try records(.freeSpaceByPlace, group.byPlace).first { ($0.1, $0.2) == (largest.1, largest.2) }
        guard let same else { throw ToolFailure(description: "the trees differ") }
        func set(_ value: UInt32, at place: Int) {
            bytes.replaceSubrange(
                place..<place + 4, with: (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) })
        }
        for place in [largest.place, same.place] {
            set(largest.1 - 1, at: place)
            set(largest.2 + 1, at: place + 4)
            let block = place / Int(superblock.blockSize) * Int(superblock.blockSize)
            if superblock.hasChecksums {
                mend(&bytes, at: block, count: Int(superblock.blockSize), field: XFSChecksum.treeBlockOffset)
            }
        }
        set(group.freeBlockCount + 1, at: header + 52)  // agf_freeblks
        if superblock.hasChecksums {
            mend(&bytes, at: header, count: Int(superblock.sectorSize), field: XFSChecksum.groupHeaderOffset)
        }
        return (bytes, largest.1 - 1)
    }
}
