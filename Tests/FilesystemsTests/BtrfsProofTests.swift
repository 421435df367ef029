// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport
import Testing

@testable import Filesystems

/// A false extent tree: it lacks an extent that has an owner, and block group and superblock count without it.
@Suite(.enabled(if: Tool.have("mkfs.btrfs", "btrfs"), "needs btrfs-progs"))
struct BtrfsProofTests {
    /// Trees of two levels and more.
    private static let sound = Result {
        try BtrfsFixture.make(["-m", "dup", "-d", "single", "-n", "4096"], byteCount: 160 << 20, files: 120)
    }

    @Test func aFileWhoseExtentIsMissingIsNamed() throws {
        let sound = try Self.sound.get()
        let (inode, logical, byteCount) = try sound.someExtent()
        try expectContradiction(
            sound, try sound.without(logical, byteCount), logical,
            "inode \(inode) of tree 5 uses the extent at \(logical), which its extent tree calls free")
    }

    /// A subvolume in deletion still refers to blocks that it has freed; before the deletion it does not.
    @Test(arguments: [false, true]) func aDeletionUnderWayIsNoOwner(hasBegun: Bool) throws {
        let sound = try Self.sound.get()
        let (_, logical, byteCount) = try sound.someExtent()
        var lying = try sound.without(logical, byteCount)
        for place in try lying.blocks(owner: BtrfsObject.rootTree) where lying.bytes[place + 100] == 0 {
            var leaf = try lying.leaf(at: place)
            for index in leaf.items.indices where leaf.items[index].objectID == 5 && leaf.items[index].type == 132 {
                leaf.items[index].data.setLittleEndian(0 as UInt32, at: 216)
                if hasBegun { leaf.items[index].data.setLittleEndian(300 as UInt64, at: 220) }
            }
            lying.store(leaf, at: place)
        }
        let reason = try VolumeIdentifier.survey(MemoryDisk(lying.bytes)).0.wholeReason
        #expect((reason == nil) == hasBegun, "\(reason ?? "mapped")")
    }

    @Test func unsoundOwnersAreContradictions() throws {
        let sound = try Self.sound.get()
        let leaf = try #require(
            try sound.liveBlocks(of: 5).first { block in
                try sound.bytes[block.place + 100] == 0
                    && sound.leaf(at: block.place).items.contains { $0.type == 108 && $0.data.count == 53 }
            })
        func reason(_ change: (inout BtrfsEditedLeaf.Item) -> Void) throws -> String? {
            var changed = sound
            for place in try sound.places(of: leaf.logical) {
                var block = try sound.leaf(at: place)
                guard let index = block.items.firstIndex(where: { $0.type == 108 && $0.data.count == 53 }) else {
                    continue
                }
                change(&block.items[index])
                changed.store(block, at: place)
            }
            return try VolumeIdentifier.survey(MemoryDisk(changed.bytes)).0.wholeReason
        }
        #expect(try reason { _ in } == nil)
        #expect(try reason { $0.data.removeLast(10) }?.hasSuffix("of tree 5 is not valid") == true)
        #expect(try reason { $0.data.setLittleEndian(UInt64.max, at: 29) }?.hasSuffix("of tree 5 is not valid") == true)
        #expect(try reason { $0.data.setLittleEndian(4096 as UInt64, at: 21) }?.hasSuffix("lies in no chunk") == true)
        #expect(try reason { $0.data.setLittleEndian(0 as UInt64, at: 21) } == nil)
        // An unreadable block cannot be followed.
        var spoiled = sound
        for place in try sound.places(of: leaf.logical) { spoiled.bytes[place + 200] ^= 1 }
        #expect(
            try VolumeIdentifier.survey(MemoryDisk(spoiled.bytes)).0.wholeReason
                == "the checksum of its tree block at \(leaf.logical) is wrong")
        #expect(try VolumeIdentifier.survey(MemoryDisk(spoiled.bytes), trustMaps: true).0.wholeReason == nil)
    }

    @Test func blockSetsGiveBackWhatTheyGot() throws {
        var random = Sample.generator(5700)
        var set = BlockSet(unit: 4096)
        var expected: Set<UInt64> = []
        for _ in 0..<2000 {
            let address =
                UInt64.random(in: 0..<1 << 50, using: &random) >> UInt64.random(in: 0...40, using: &random) * 4096
            #expect(try set.insert(address) == expected.insert(address).inserted)
        }
        var found: [UInt64] = []
        try set.forEach { address throws(FilesystemError) in found.append(address) }
        #expect(found == expected.sorted(), "seed \(Sample.seed)")
        var many = BlockSet(unit: 4096)
        #expect(throws: FilesystemError.self) {
            for page in 0...(1 << 17) as ClosedRange<UInt64> { _ = try many.insert(page << 24) }
        }
    }

    private func expectContradiction(
        _ sound: BtrfsFixture, _ lying: BtrfsFixture, _ logical: UInt64, _ expected: String
    ) throws {
        #expect(try VolumeIdentifier.survey(MemoryDisk(sound.bytes)).0.wholeReason == nil)
        let (believed, small) = try VolumeIdentifier.survey(MemoryDisk(lying.bytes), trustMaps: true)
        let place = UInt64(try #require(try sound.places(of: logical).first))
        #expect(believed.wholeReason == nil && !small.covers(place..<place + 1))
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(lying.bytes))
        #expect(info.wholeReason == expected)
        #expect(map == .whole(byteCount: UInt64(lying.bytes.count)))
    }
}

extension BtrfsFixture {
    /// The places of the copies of a logical address.
    func places(of logical: UInt64) throws -> [Int] {
        guard let checksum = BtrfsChecksum(rawValue: superblock.checksumType) else { return [] }
        var mapper = try BtrfsMapper(MemoryDisk(bytes), superblock, checksum)
        return try mapper.blockReader().chunks.places(of: logical..<logical + 4096).map { Int($0.lowerBound) }
    }

    /// The blocks of a tree according to the extent tree: first copies.
    func liveBlocks(of tree: UInt64) throws -> [(place: Int, logical: UInt64)] {
        var known: Set<UInt64> = []
        for place in try blocks(owner: BtrfsObject.extentTree) where bytes[place + 100] == 0 {
            known.formUnion(try leaf(at: place).items.filter { $0.type == 169 }.map(\.objectID))
        }
        var seen: Set<UInt64> = []
        return try blocks(owner: tree).compactMap { place in
            let logical = try bytes.littleEndian(UInt64.self, at: place + 48)
            return known.contains(logical) && seen.insert(logical).inserted ? (place, logical) : nil
        }
    }

    /// An extent of a file, and its inode.
    func someExtent() throws -> (inode: UInt64, logical: UInt64, byteCount: UInt64) {
        for block in try liveBlocks(of: 5) where bytes[block.place + 100] == 0 {
            for item in try leaf(at: block.place).items where item.type == 108 && item.data.count == 53 {
                let logical = try item.data.littleEndian(UInt64.self, at: 21)
                if logical > 0 { return (item.objectID, logical, try item.data.littleEndian(at: 29)) }
            }
        }
        throw ToolFailure(description: "no extent")
    }

    /// The filesystem without an extent in its extent tree and its counts.
    func without(_ logical: UInt64, _ byteCount: UInt64) throws -> BtrfsFixture {
        var lying = self
        for place in try blocks(owner: BtrfsObject.extentTree) where bytes[place + 100] == 0 {
            var leaf = try leaf(at: place)
            leaf.items.removeAll { $0.objectID == logical && [168, 169, 176, 178, 182, 184].contains($0.type) }
            for index in leaf.items.indices where leaf.items[index].type == 192 {
                let item = leaf.items[index]
                guard item.objectID <= logical, logical - item.objectID < item.offset else { continue }
                let used = try item.data.littleEndian(UInt64.self, at: 0)
                leaf.items[index].data.setLittleEndian(used - min(used, byteCount), at: 0)
            }
            lying.store(leaf, at: place)
        }
        for offset in [65536, 64 << 20] {
            try lying.changeSuperblock(at: offset) { block in
                block.setLittleEndian(try block.littleEndian(UInt64.self, at: 120) - byteCount, at: 120)
            }
        }
        return lying
    }
}
