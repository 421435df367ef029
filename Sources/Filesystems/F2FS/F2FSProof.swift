// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of an F2FS with the owners of its blocks: the nodes in the node address table (NAT), and the data
/// that these nodes refer to (`f2fs_fs.h`, struct f2fs_nat_entry, struct f2fs_node; kernel, `fs/f2fs/node.h`,
/// current_nat_addr). An invalid owner counts as a contradiction.
struct F2FSProof {
    /// NAT_ENTRY_PER_BLOCK: entries of 9 bytes.
    private static let entriesPerBlock: UInt64 = 455
    private static let entryByteCount = 9
    /// The start of a node's footer, and the modes of special files, which store no address (S_IFBLK, S_IFCHR).
    private static let footer = 4072
    private static let deviceModes: Set<UInt8> = [0x20, 0x60]
    /// NEW_ADDR, COMPRESS_ADDR.
    private static let firstSpecialAddress: UInt32 = 0xFFFF_FFFE

    private let volume: any BlockReader
    private let superblock: F2FSSuperblock
    private let checkpoint: F2FSCheckpoint
    private let map: AllocationMap
    private var nodes = BlockSet(unit: F2FSSuperblock.blockSize)
    private var nodeCount: UInt64 = 0

    /// The first owner whose blocks are free in the map, as a sentence part; `nil` without one.
    static func contradiction(
        _ volume: any BlockReader, _ contents: VolumeContents
    ) throws(BlockIOError) -> String? {
        let bytes = try volume.readBytes(at: F2FSSuperblock.offset, count: F2FSSuperblock.byteCount)
        guard let superblock = (try? F2FSSuperblock(bytes)) ?? nil else { return "its superblock has changed since" }
        if let problem = superblock.problem(volumeByteCount: volume.byteCount) { return problem }
        do throws(FilesystemError) {
            let checkpoint = try F2FSCheckpoint.live(volume, superblock)
            if let problem = checkpoint.problem { return problem }
            var proof = F2FSProof(
                volume: volume, superblock: superblock, checkpoint: checkpoint, map: contents.allocation)
            try proof.findNodes()
            try proof.checkNodes()
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    private init(
        volume: any BlockReader, superblock: F2FSSuperblock, checkpoint: F2FSCheckpoint, map: AllocationMap
    ) {
        self.volume = volume
        self.superblock = superblock
        self.checkpoint = checkpoint
        self.map = map
    }

    private func block(_ address: UInt64) throws(FilesystemError) -> [UInt8] {
        try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: address * F2FSSuperblock.blockSize, count: Int(F2FSSuperblock.blockSize))
        }
    }

    // MARK: Nodes

    private mutating func findNodes() throws(FilesystemError) {
        let newer = try journal()
        let blockCount = superblock.segmentCounts[2] / 2 * F2FSSuperblock.segmentBlockCount
        for index in 0..<blockCount {
            guard index / 8 < UInt64(checkpoint.natVersions.count) else { throw .damaged("its NAT is too short") }
            // Segments come in pairs, with one place for each block in either; f2fs_test_bit: the highest bit first.
            let isSecond = checkpoint.natVersions[Int(index / 8)] & (0x80 >> UInt8(index % 8)) != 0
            let place = index * 2 - index % F2FSSuperblock.segmentBlockCount
            let bytes = try block(
                superblock.areas[2] + place + (isSecond ? F2FSSuperblock.segmentBlockCount : 0))
            for entry in 0..<Self.entriesPerBlock {
                let node = index * Self.entriesPerBlock + entry
                let stored = Self.word(bytes, at: Int(entry) * Self.entryByteCount + 5)
                try add(node, at: newer.isEmpty ? stored : newer[node] ?? stored)
            }
        }
        guard nodeCount == checkpoint.validNodeCount else {
            throw .damaged("its NAT does not name as many nodes as its checkpoint counts")
        }
    }

    private mutating func add(_ node: UInt64, at address: UInt32) throws(FilesystemError) {
        guard address != 0, !superblock.virtualNodes.contains(node) else { return }
        nodeCount += 1
        try expectUse(UInt64(address), count: 1) { "node \(node)" }
        guard try nodes.insert(UInt64(address) * F2FSSuperblock.blockSize) else {
            throw .damaged("node \(node) lies in the block of another one")
        }
    }

    /// Addresses newer than the NAT: the number of nodes (n_nats), then each node's number and entry.
    private func journal() throws(FilesystemError) -> [UInt64: UInt32] {
        let bytes = try checkpoint.journal(.nodes, volume)
        let count = Int(bytes[0]) | Int(bytes[1]) << 8
        let entryByteCount = 4 + Self.entryByteCount
        guard count <= (bytes.count - 2) / entryByteCount else {
            throw .damaged("its NAT journal is longer than its room")
        }
        var entries: [UInt64: UInt32] = [:]
        for index in 0..<count {
            let place = 2 + index * entryByteCount
            entries[UInt64(Self.word(bytes, at: place))] = Self.word(bytes, at: place + 9)
        }
        return entries
    }

    // MARK: Data

    private func checkNodes() throws(FilesystemError) {
        let isFlexible = superblock.feature & F2FSReservations.flexibleInlineXattr != 0
        var inodeCount: UInt64 = 0
        try nodes.forEach { offset throws(FilesystemError) in
            let node = try block(offset / F2FSSuperblock.blockSize)
            let (number, inode) = (Self.word(node, at: Self.footer), Self.word(node, at: Self.footer + 4))
            if number == inode {
                inodeCount += 1
                if Self.deviceModes.contains(node[1] & 0xF0) { return }
            }
            let addresses = try FilesystemError.parsing { () throws(ParsingError) in
                try F2FSReservations.addresses(of: node, isFlexible: isFlexible)
            }
            var run: Range<UInt64>?
            for place in stride(from: addresses.lowerBound, to: addresses.upperBound, by: 4) {
                let address = Self.word(node, at: place)
                guard address != 0, address < Self.firstSpecialAddress else { continue }
                if let last = run, last.upperBound == UInt64(address) {
                    run = last.lowerBound..<UInt64(address) + 1
                    continue
                }
                if let run { try expectUse(run.lowerBound, count: UInt64(run.count)) { "inode \(inode)" } }
                run = UInt64(address)..<UInt64(address) + 1
            }
            if let run { try expectUse(run.lowerBound, count: UInt64(run.count)) { "inode \(inode)" } }
        }
        guard inodeCount == checkpoint.validInodeCount else {
            throw .damaged("its nodes are not as many inodes as its checkpoint counts")
        }
    }

    private static func word(_ bytes: [UInt8], at place: Int) -> UInt32 {
        UInt32(bytes[place]) | UInt32(bytes[place + 1]) << 8 | UInt32(bytes[place + 2]) << 16
            | UInt32(bytes[place + 3]) << 24
    }

    // MARK: The map

    private func expectUse(_ block: UInt64, count: UInt64, _ owner: () -> String) throws(FilesystemError) {
        let end = superblock.main + superblock.mainSegmentCount * F2FSSuperblock.segmentBlockCount
        guard block >= superblock.main, block < end, count <= end - block else {
            throw .damaged("\(owner()) uses block \(block), which lies outside of its main area")
        }
        let size = F2FSSuperblock.blockSize
        if let free = map.firstUnused(in: block * size..<(block + count) * size) {
            throw .damaged("\(owner()) uses block \(free / size), which its segment table calls free")
        }
    }
}
