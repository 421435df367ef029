// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads the free space of an XFS with a valid superblock and a clean log, group by group.
///
/// Blocks that no tree lists as free are used: headers, the log, every tree, inodes, and the blocks of the free lists.
/// Any inconsistency ends the work with `FilesystemError.damaged`: the volume is then taken whole.
struct XFSMapper {
    private let volume: any BlockReader
    private let superblock: XFSSuperblock
    /// The sequence number of the head of the log.
    private let head: UInt64
    private let blockSize: UInt64
    private var used = RangeAccumulator()

    init(_ volume: any BlockReader, _ superblock: XFSSuperblock, head: UInt64) {
        self.volume = volume
        self.superblock = superblock
        self.head = head
        blockSize = UInt64(superblock.blockSize)
    }

    mutating func map() throws(FilesystemError) -> AllocationMap {
        if superblock.hasChecksums { try check(lsn: superblock.lsn) }
        for number in 0..<superblock.groupCount { try mapGroup(number) }
        try expectUse(superblock.logRange, "its log")
        // The filesystem cannot declare space behind its end free.
        used.append(superblock.blockCount * blockSize..<volume.byteCount)
        return used.map(byteCount: volume.byteCount)
    }

    private mutating func mapGroup(_ number: UInt32) throws(FilesystemError) {
        // XFS_AGF_DADDR, XFS_AGFL_DADDR: the second and the fourth sector.
        let group = try XFSAllocationGroup(try sector(1, ofGroup: number), number: number, of: superblock)
        let freeList = try group.freeList(try sector(3, ofGroup: number), of: superblock)
        if superblock.hasChecksums { try check(lsn: group.lsn) }

        let start = superblock.offset(ofGroup: UInt64(number))
        var position = start
        var accumulator = used
        used = RangeAccumulator()
        var byPlace = XFSFreeSpaceTree(volume, superblock, group, .place, head: head)
        try byPlace.walk { free in
            accumulator.append(position..<start + UInt64(free.lowerBound) * blockSize)
            position = start + UInt64(free.upperBound) * blockSize
        }
        accumulator.append(position..<start + UInt64(group.blockCount) * blockSize)
        used = accumulator

        var bySize = XFSFreeSpaceTree(volume, superblock, group, .size, head: head)
        try bySize.walk { _ in }
        guard bySize.fingerprint == byPlace.fingerprint else {
            throw .damaged("the free-space trees of its allocation group \(number) contradict each other")
        }
        // Superblock, free space, inodes, free list: a sector each.
        try expectUse(
            start..<start + 4 * UInt64(superblock.sectorSize), "the headers of its allocation group \(number)")
        var places = byPlace.places + bySize.places
        for block in [group.owners, group.references].compactMap({ $0?.block }) + freeList {
            guard let place = superblock.range(ofBlocks: UInt64(block), count: 1, inGroup: UInt64(number)) else {
                throw .damaged("the header of its allocation group \(number) points outside of it")
            }
            places.append(place)
        }
        for place in places { try expectUse(place, "metadata of its allocation group \(number)") }
    }

    private func sector(_ index: UInt64, ofGroup number: UInt32) throws(FilesystemError) -> [UInt8] {
        let size = UInt64(superblock.sectorSize)
        return try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: superblock.offset(ofGroup: UInt64(number)) + index * size, count: Int(size))
        }
    }

    /// Throws if the trees list used blocks as free.
    private func expectUse(_ range: ByteRange, _ what: String) throws(FilesystemError) {
        let ranges = used.ranges
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound > range.lowerBound { high = middle } else { low = middle + 1 }
        }
        guard low < ranges.count, ranges[low].covers(range) else {
            throw .damaged("its free-space trees list \(what) as free")
        }
    }

    private func check(lsn: UInt64) throws(FilesystemError) {
        guard Self.isPlausible(lsn: lsn, head: head) else { throw .damaged("its metadata is newer than its log") }
    }

    /// Whether metadata may have this sequence number: it is written in place only after it is in the log (kernel,
    /// xfs_log_check_lsn; NULLCOMMITLSN marks metadata that was never logged).
    static func isPlausible(lsn: UInt64, head: UInt64) -> Bool { lsn == .max || lsn <= head }
}
