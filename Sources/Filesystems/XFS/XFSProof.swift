// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of an XFS with the owners of its blocks: the trees of each group, the reverse mappings and
/// reference counts, if any, and every inode with its extents. An invalid owner counts as a contradiction.
struct XFSProof {
    private let volume: any BlockReader
    private let superblock: XFSSuperblock
    private let map: AllocationMap

    /// The first owner whose blocks are free in the map, as a sentence part; `nil` without one.
    static func contradiction(
        _ volume: any BlockReader, _ contents: VolumeContents
    ) throws(BlockIOError) -> String? {
        let bytes = try volume.readBytes(at: 0, count: XFSSuperblock.byteCount)
        guard let superblock = (try? XFSSuperblock(bytes)) ?? nil, superblock.hasValidSectorSize else {
            return "its superblock has changed since"
        }
        let sector = try volume.readBytes(at: 0, count: Int(superblock.sectorSize))
        if let problem = superblock.problem(sector: sector, volumeByteCount: volume.byteCount) { return problem }
        do throws(FilesystemError) {
            let proof = XFSProof(volume, superblock, contents.allocation)
            // Without checksums, many inodes could refer to the same tree.
            var treeBlocksLeft = superblock.blockCount
            for number in 0..<superblock.groupCount { try proof.checkGroup(number, &treeBlocksLeft) }
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    private init(_ volume: any BlockReader, _ superblock: XFSSuperblock, _ map: AllocationMap) {
        self.volume = volume
        self.superblock = superblock
        self.map = map
    }

    private func checkGroup(_ number: UInt32, _ treeBlocksLeft: inout UInt64) throws(FilesystemError) {
        let group = try XFSAllocationGroup(try sector(1, ofGroup: number), number: number, of: superblock)
        // XFS_AGI_DADDR: the third sector.
        let header = try XFSInodeHeader(try sector(2, ofGroup: number), number: number, of: superblock)
        try checkOwners(group)
        try checkReferences(group)
        if let root = header.freeInodes {
            try checkTree(.freeInodes, root, ofGroup: number, "the tree of free inodes") { (_, _) in }
        }
        var inodeCount: UInt64 = 0
        var end: UInt64 = 0
        try checkTree(.inodes, header.inodes, ofGroup: number, "the inode tree") {
            bytes, place throws(FilesystemError) in
            let chunk = try XFSInodeChunk(bytes, at: place, of: superblock)
            guard UInt64(chunk.start) >= end else {
                throw .damaged("the inode tree of allocation group \(number) is not valid")
            }
            end = UInt64(chunk.start) + UInt64(XFSInodeChunk.inodeCount)
            inodeCount += UInt64(chunk.presentCount)
            for run in chunk.runs { try checkInodes(run, ofGroup: number, &treeBlocksLeft) }
        }
        guard inodeCount == UInt64(header.inodeCount) else {
            throw .damaged("its inode tree contradicts the inodes that are counted for its group \(number)")
        }
    }

    // MARK: Trees of a group

    private func checkTree(
        _ kind: XFSTree.Kind, _ root: XFSAllocationGroup.Root, ofGroup number: UInt32, _ name: String,
        _ record: ([UInt8], Int) throws(FilesystemError) -> Void
    ) throws(FilesystemError) {
        let name = "\(name) of allocation group \(number)"
        var tree = XFSTree(volume, superblock, kind, .group(number), name: name)
        try tree.walk(root: UInt64(root.block), levelCount: root.levelCount) { visit throws(FilesystemError) in
            switch visit {
            case .block(let range): try expectUse(range, name)
            case .record(let bytes, let place): try record(bytes, place)
            }
        }
    }

    /// The reverse mappings, which have an owner for every used block (struct xfs_rmap_rec).
    private func checkOwners(_ group: XFSAllocationGroup) throws(FilesystemError) {
        guard let root = group.owners else { return }
        try checkTree(.owners, root, ofGroup: group.number, "the tree of owners") {
            bytes, place throws(FilesystemError) in
            let (block, count, owner) = try FilesystemError.parsing { () throws(ParsingError) in
                // rm_startblock, rm_blockcount, rm_owner
                (
                    try bytes.bigEndian(UInt32.self, at: place), try bytes.bigEndian(UInt32.self, at: place + 4),
                    try bytes.bigEndian(UInt64.self, at: place + 8)
                )
            }
            try expectUse(
                range(ofBlocks: block, count, group.number, "the tree of owners"), Self.ownerName(owner))
        }
    }

    /// XFS_RMAP_OWN_*: negative numbers are not inodes.
    private static func ownerName(_ owner: UInt64) -> String {
        switch Int64(bitPattern: owner) {
        case -4: "its log"
        case -7: "a chunk of inodes"
        case -9: "a copy on write under way"
        case ..<0: "metadata of its allocation group"
        default: "inode \(owner)"
        }
    }

    /// Extents shared by several files, and blocks reserved for copies on write (struct xfs_refcount_rec).
    private func checkReferences(_ group: XFSAllocationGroup) throws(FilesystemError) {
        guard let root = group.references else { return }
        try checkTree(.references, root, ofGroup: group.number, "the tree of shared extents") {
            bytes, place throws(FilesystemError) in
            let (block, count) = try FilesystemError.parsing { () throws(ParsingError) in
                // rc_startblock, whose highest bit (XFS_REFC_COWFLAG) marks copies on write; rc_blockcount
                (
                    try bytes.bigEndian(UInt32.self, at: place) & 0x7FFF_FFFF,
                    try bytes.bigEndian(UInt32.self, at: place + 4)
                )
            }
            try expectUse(
                range(ofBlocks: block, count, group.number, "the tree of shared extents"), "a shared extent")
        }
    }

    private func range(
        ofBlocks block: UInt32, _ count: UInt32, _ group: UInt32, _ name: String
    ) throws(FilesystemError) -> ByteRange {
        guard
            let range = superblock.range(ofBlocks: UInt64(block), count: UInt64(count), inGroup: UInt64(group))
        else { throw .damaged("\(name) of allocation group \(group) is not valid") }
        return range
    }

    // MARK: Inodes

    /// - Parameter run: numbers of inodes inside the group.
    private func checkInodes(_ run: Range<UInt64>, ofGroup number: UInt32, _ treeBlocksLeft: inout UInt64)
        throws(FilesystemError)
    {
        let size = UInt64(superblock.inodeSize)
        let start = superblock.offset(ofGroup: UInt64(number))
        let shift = UInt64(superblock.logOfGroupBlockCount) + UInt64(superblock.logOfInodesPerBlock)
        let first = UInt64(number) << shift | run.lowerBound
        let groupByteCount = superblock.blockCount(ofGroup: UInt64(number)) * UInt64(superblock.blockSize)
        guard run.upperBound * size <= groupByteCount else {
            throw .damaged("inode \(first) lies outside of its allocation group")
        }
        let range = start + run.lowerBound * size..<start + run.upperBound * size
        try expectUse(range, "a chunk of inodes")
        let bytes = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: range.lowerBound, count: Int(range.byteCount))
        }
        for (index, place) in stride(from: 0, to: bytes.count, by: Int(size)).enumerated() {
            let inodeNumber = first + UInt64(index)
            let inode = try XFSInode(Array(bytes[place..<place + Int(size)]), number: inodeNumber, of: superblock)
            guard let inode else { continue }
            try check(inode.data, of: inodeNumber, &treeBlocksLeft)
            try check(inode.attributes, of: inodeNumber, &treeBlocksLeft)
        }
    }

    private func check(_ fork: XFSInode.Fork, of inode: UInt64, _ treeBlocksLeft: inout UInt64) throws(FilesystemError)
    {
        switch fork {
        case .inside: break
        case .extents(let extents):
            for extent in extents { try check(extent, of: inode) }
        case .tree(let level, let pointers):
            var tree = XFSTree(
                volume, superblock, .extents, .inode(inode), name: "the extent tree of inode \(inode)")
            try tree.walk(below: pointers, level: level) { visit throws(FilesystemError) in
                switch visit {
                case .block(let range):
                    guard treeBlocksLeft > 0 else { throw .damaged("its inodes name more blocks than there are") }
                    treeBlocksLeft -= 1
                    try expectUse(range, "inode \(inode)")
                case .record(let bytes, let place):
                    let extent = try FilesystemError.parsing { () throws(ParsingError) in
                        try XFSInode.Extent(bytes, at: place)
                    }
                    try check(extent, of: inode)
                }
            }
        }
    }

    private func check(_ extent: XFSInode.Extent, of inode: UInt64) throws(FilesystemError) {
        guard let range = superblock.range(ofBlocks: extent.block, count: extent.blockCount) else {
            throw .damaged("an extent of inode \(inode) is not valid")
        }
        try expectUse(range, "inode \(inode)")
    }

    // MARK: The map

    private func expectUse(_ range: ByteRange, _ owner: @autoclosure () -> String) throws(FilesystemError) {
        guard let free = map.firstUnused(in: range) else { return }
        let groupByteCount = UInt64(superblock.groupBlockCount) * UInt64(superblock.blockSize)
        let (group, place) = free.quotientAndRemainder(dividingBy: groupByteCount)
        throw .damaged(
            "\(owner()) uses block \(place / UInt64(superblock.blockSize)) of allocation group \(group), which its "
                + "free-space trees call free")
    }

    private func sector(_ index: UInt64, ofGroup number: UInt32) throws(FilesystemError) -> [UInt8] {
        let size = UInt64(superblock.sectorSize)
        return try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: superblock.offset(ofGroup: UInt64(number)) + index * size, count: Int(size))
        }
    }
}
