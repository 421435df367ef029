// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mkfs.btrfs", "btrfs", "btrfstune"), "needs btrfs-progs"))
struct BtrfsFilesystemTests {
    /// Single metadata, with one leaf per tree.
    private static let small = Result {
        try BtrfsFixture.make(["-m", "single", "-d", "single", "-L", "fixture"], byteCount: 128 << 20, files: 10)
    }

    /// Offset and width of a superblock field, its new value, and the expected reason.
    private static let changes: [(offset: Int, width: Int, value: UInt64, expected: String)] = [
        (96, 8, 4096, "its log tree holds changes not yet in place"),
        (136, 8, 3, "it is one of 3 devices of a multi-device filesystem"),
        (136, 8, 0, "its number of devices is not valid"),
        (56, 8, 1 | 1 << 32, "it is a seed device, on which other filesystems build"),
        (56, 8, 1 | 1 << 2, "it is marked as having errors"),
        (56, 8, 1 | 1 << 36, "a change of its UUID is under way"),
        (56, 8, 1 | 1 << 38, "a conversion of it is under way, or its flags (274877906944) are not known here"),
        (188, 8, 0x361 | 1 << 12, "it has a feature of which no map is made: zoned"),
        (188, 8, 0x361 | 1 << 13, "it has a feature of which no map is made: extent_tree_v2"),
        (188, 8, 0x361 | 1 << 14, "it has a feature of which no map is made: raid_stripe_tree"),
        (188, 8, 0x361 | 1 << 40, "it has a feature of which no map is made: incompat bit 40"),
        (188, 8, 0x360, "it is of a format from before 2009"),
        (180, 8, 1 << 4, "it has a feature that is not known here: compat_ro bit 4"),
        (172, 8, 1, "it has a feature that is not known here: compat bits 1"),
        (196, 2, 2, "no map is made of sha256 checksums"),
        (196, 2, 7, "no map is made of unknown checksums"),
        (144, 4, 512, "its sector size is not valid"),
        (148, 4, 2048, "its node size is not valid"),
        (209, 8, 129 << 20, "it is larger than its partition"),
        (120, 8, 4096, "its extents contradict the bytes that its superblock counts as used"),
        (160, 4, 4096, "its table of system chunks is not valid"),
        (198, 1, 9, "its tree levels are not valid"),
        (48, 8, 0, "its superblock is not where it should be"),
        (164, 8, 1 << 40, "its generations contradict"),
        (180, 8, 11, "its root tree does not name tree 11"),
    ]

    private func reason(_ fixture: BtrfsFixture) throws -> String? { try reason(PatchedReader(fixture.bytes)) }

    private func reason(_ volume: PatchedReader) throws -> String? {
        let (info, map) = try VolumeIdentifier.survey(volume)
        #expect(info.kind == .btrfs)
        if info.wholeReason != nil {
            #expect(info.mapSource == .whole && map == .whole(byteCount: volume.byteCount))
        }
        return info.wholeReason
    }

    /// Every reason why the trees may be incomplete or unreadable, each in a copy of a valid filesystem.
    @Test(arguments: changes) func whatMakesTreesUntrustworthyIsNamed(
        offset: Int, width: Int, value: UInt64, expected: String
    ) throws {
        var volume = PatchedReader(try Self.small.get().bytes)
        var block = try volume.current(65536..<65536 + 4096)
        for index in 0..<width { block[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
        BtrfsFixture.mend(&block)
        volume.patches.append((65536, block))
        #expect(try reason(volume) == expected)
    }

    @Test func aMultiDeviceFilesystemIsTakenWhole() throws {
        let bench = try Workbench()
        for name in ["one", "two"] { try bench.sparseFile(name, byteCount: 128 << 20) }
        try Tool.run([
            "mkfs.btrfs", "-q", "-f", "-m", "raid1", "-d", "raid0", bench.path("one").string, bench.path("two").string,
        ])
        for name in ["one", "two"] {
            let (info, map) = try bench.survey(name)
            #expect(info.kind == .btrfs && info.mapSource == .whole)
            #expect(info.wholeReason == "it is one of 2 devices of a multi-device filesystem")
            #expect(info.remarks == ["it must be restored together with all other devices of its filesystem"])
            #expect(map == .whole(byteCount: 128 << 20))
        }
    }

    @Test(arguments: ["sha256", "blake2"]) func otherChecksumsAreTakenWhole(name: String) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 128 << 20)
        try Tool.run(["mkfs.btrfs", "-q", "-f", "--csum", name, image.string])
        let (info, map) = try bench.survey("image")
        #expect(info.wholeReason == "no map is made of \(name == "blake2" ? "blake2b" : name) checksums")
        #expect(map == .whole(byteCount: 128 << 20))
    }

    /// `btrfstune -m` changes the visible UUID, and keeps that of the tree blocks.
    @Test func anotherMetadataUUIDIsFollowed() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 130 << 20)
        try Tool.run(["mkfs.btrfs", "-q", "-f", image.string])
        let (before, _) = try bench.survey("image")
        try Tool.run(["btrfstune", "-m", image.string])
        let (info, map) = try bench.survey("image")
        #expect(info.wholeReason == nil && info.features.contains("metadata_uuid"))
        #expect(info.uuid != before.uuid)
        #expect(try bench.opinion("image") == .found(kindName: "btrfs", uuid: info.uuid, label: nil))
        #expect(map == (try BtrfsDump(image, volumeByteCount: 130 << 20)).used)
    }

    /// A converted ext4 has chunks and extents where the kernel would never put them.
    @Test(.enabled(if: Tool.have("btrfs-convert", "mke2fs"), "needs btrfs-convert and e2fsprogs"), arguments: 0..<2)
    func aConvertedExtIsMapped(index: Int) throws {
        var random = Sample.generator(5400 + index)
        let bench = try Workbench()
        try bench.randomTree("tree", files: 100, maximumByteCount: 60_000, using: &random)
        let image = try bench.sparseFile("image", byteCount: 400 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", bench.path("tree").string, image.string])
        try Tool.run(["btrfs-convert", "-N", index == 0 ? "16384" : "4096", image.string])
        let (info, map) = try bench.survey("image")
        #expect(info.wholeReason == nil && info.kind == .btrfs, "seed \(Sample.seed)")
        #expect(try bench.opinion("image") == .found(kindName: "btrfs", uuid: info.uuid, label: info.label))
        #expect(map == (try BtrfsDump(image, volumeByteCount: 400 << 20)).used, "seed \(Sample.seed)")
        try spoilUnused(image, map)
        let check = try ChildProcess.run(["btrfs", "check", "--readonly", "--check-data-csum", image.string])
        #expect(check.succeeded, "seed \(Sample.seed): \(check.lastWords)")
        // And back: the ext4 is in one of its files.
        try Tool.run(["btrfs-convert", "-r", image.string])
        let ext = try ChildProcess.run(["e2fsck", "-fn", image.string])
        #expect(ext.succeeded, "seed \(Sample.seed): \(ext.lastWords)")
    }

    @Test func mirrorsOfTheSuperblock() throws {
        let fixture = try Self.small.get()
        let (sound, map) = try VolumeIdentifier.survey(PatchedReader(fixture.bytes))
        #expect(sound.remarks == [] && map.covers(64 << 20..<(64 << 20) + 65536) && map.covers(0..<1 << 20))

        // The primary's label is damaged: the mirror is used, and that is reported.
        var damaged = fixture
        damaged.bytes[65536 + 320] ^= 1
        let (mended, same) = try VolumeIdentifier.survey(PatchedReader(damaged.bytes))
        #expect(mended.wholeReason == nil && same == map && mended.label == "fixture")
        #expect(mended.remarks.first?.hasPrefix("its superblock is damaged, and the copy at 64 MiB was used") == true)

        // A mirror of another commit is not used.
        damaged.changeSuperblock(at: 64 << 20) { $0.setLittleEndian(2 as UInt64, at: 72) }
        #expect(try reason(damaged) == "the checksum of its superblock is wrong")

        var contradicted = fixture
        contradicted.changeSuperblock(at: 64 << 20) { $0.setLittleEndian(1 << 20 as UInt64, at: 72) }
        #expect(try reason(contradicted) == "the copies of its superblock contradict")
        contradicted = fixture
        contradicted.changeSuperblock(at: 64 << 20) { $0[40] ^= 1 }
        #expect(try reason(contradicted) == "the copies of its superblock contradict")

        var older = fixture
        older.bytes[(64 << 20) + 200] ^= 1
        let (remarked, _) = try VolumeIdentifier.survey(PatchedReader(older.bytes))
        #expect(remarked.wholeReason == nil)
        #expect(remarked.remarks == ["the copy of the superblock at 64 MiB is damaged"])

        // Without the primary's magic there is no filesystem, whatever remains of an earlier one.
        var gone = fixture
        gone.bytes[65536 + 64] = 0
        #expect(try VolumeIdentifier.survey(PatchedReader(gone.bytes)).0.kind == .unknown)
    }

    /// The second mirror, of a filesystem that is long enough: damaged ones before it are skipped.
    @Test func theMirrorAt256GiB() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 257 << 30)
        try Tool.run(["mkfs.btrfs", "-q", "-K", image.string])
        let (sound, map) = try bench.survey("image")
        #expect(sound.mapSource == .allocationStructures && sound.remarks == [])
        #expect(map == (try BtrfsDump(image, volumeByteCount: 257 << 30)).used)
        #expect(map.covers(256 << 30..<(256 << 30) + 65536))
        do {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            // The labels.
            for offset in [64 << 10, 64 << 20] as [UInt64] { try disk.writeBytes([1, 2, 3], at: offset + 299) }
        }
        let (mended, same) = try bench.survey("image")
        #expect(mended.wholeReason == nil && same == map)
        #expect(mended.remarks.contains { $0.hasPrefix("its superblock is damaged, and the copy at 256 GiB was used") })
    }

    @Test func theOtherCopyOfADamagedBlockServes() throws {
        let fixture = try BtrfsFixture.make(["-m", "dup", "-d", "single"], byteCount: 160 << 20)
        let (sound, map) = try VolumeIdentifier.survey(PatchedReader(fixture.bytes))
        #expect(sound.wholeReason == nil)
        let superblock = fixture.superblock
        let chunk = try #require(try BtrfsChunkMap(systemChunksOf: superblock).chunks.first)
        let places = chunk.places(of: superblock.chunkRoot..<superblock.chunkRoot + UInt64(superblock.nodeSize))
        #expect(places.count == 2)
        var damaged = fixture
        damaged.bytes[Int(places[0].lowerBound) + 200] ^= 1
        #expect(try VolumeIdentifier.survey(PatchedReader(damaged.bytes)).1 == map)
        let disk = MemoryDisk(fixture.bytes)
        disk.makeUnreadable(places[0])
        #expect(try VolumeIdentifier.survey(disk).1 == map)
        damaged.bytes[Int(places[1].lowerBound) + 200] ^= 1
        #expect(try reason(damaged)?.hasPrefix("the checksum of its tree block at") == true)
        disk.makeUnreadable(places[1])
        #expect(throws: BlockIOError.self) { try VolumeIdentifier.survey(disk) }
    }

    /// Items that indicate unfinished work in the last commit.
    @Test func workUnderWayIsNotFollowed() throws {
        func changed(
            _ owner: UInt64, _ change: (inout BtrfsEditedLeaf) throws -> Void
        ) throws -> String? {
            var fixture = try Self.small.get()
            for place in try fixture.blocks(owner: owner) {
                var leaf = try fixture.leaf(at: place)
                try change(&leaf)
                fixture.store(leaf, at: place)
            }
            return try reason(fixture)
        }
        let blank = [UInt8](repeating: 0, count: 448)
        #expect(
            try changed(BtrfsObject.rootTree) {
                $0.items.append(.init(objectID: BtrfsObject.balance, type: 248, offset: 0, data: blank))
            } == "a balance of it is under way")
        #expect(
            try changed(BtrfsObject.rootTree) {
                $0.items.append(.init(objectID: BtrfsObject.relocationTree, type: 132, offset: 5, data: blank))
            } == "a relocation of its chunks is under way")
        for (state, expected) in [(1, true), (2, true), (0, false), (3, false), (4, false)] as [(UInt64, Bool)] {
            var item = [UInt8](repeating: 0, count: 72)
            item.setLittleEndian(state, at: 32)
            let found = try changed(BtrfsObject.deviceTree) {
                $0.items.append(.init(objectID: 0, type: 250, offset: 0, data: item))
            }
            #expect(found == (expected ? "the replacement of a device is under way" : nil))
        }
        #expect(try changed(BtrfsObject.extentTree) { $0.items[0].type = 180 }?.contains("type 180") == true)
        #expect(try changed(BtrfsObject.deviceTree) { $0.items.removeLast() }?.contains("contradicts") == true)
        #expect(
            try changed(BtrfsObject.extentTree) { leaf in
                leaf.items.removeAll { $0.type == BtrfsItemType.extentItem }
            }?.contains("contradicts the extents in it") == true)
    }

    @Test func blockGroupsInATreeOfTheirOwn() throws {
        let fixture = try Self.small.get()
        let (_, before) = try VolumeIdentifier.survey(PatchedReader(fixture.bytes))
        var changed = fixture
        try changed.addBlockGroupTree()
        let (info, map) = try VolumeIdentifier.survey(PatchedReader(changed.bytes))
        #expect(info.wholeReason == nil)
        #expect(info.features.contains("block_group_tree"))
        #expect(before.isSubset(of: map))
        #expect(map.usedByteCount == before.usedByteCount + UInt64(fixture.nodeSize))
    }

    /// With the copy of the superblock at 256 GiB.
    @Test func largeFilesystemIsSurveyedQuickly() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 40)
        try Tool.run(["mkfs.btrfs", "-q", "-f", "-K", image.string])
        let start = SystemFacts.monotonicSeconds()
        let (info, map) = try bench.survey("image")
        let seconds = SystemFacts.monotonicSeconds() - start
        print("1 TiB of Btrfs (empty): \(Int(seconds * 1000)) ms, \(map.ranges.count) ranges")
        #expect(info.wholeReason == nil && map.usedByteCount < 10 << 20)
        #expect(map.covers(256 << 30..<(256 << 30) + 65536))
    }

    @Test func xxHash64OfKnownTexts() {
        // Values of xxhsum -H1.
        #expect(XXHash64.hash([]) == 0xEF46_DB37_51D8_E999)
        #expect(XXHash64.hash(Array("abc".utf8)) == 0x44BC_2CF5_AD77_0999)
        #expect(XXHash64.hash(Array("Nobody inspects the spammish repetition".utf8)) == 0xFBCE_A83C_8A37_8BF1)
    }
}
