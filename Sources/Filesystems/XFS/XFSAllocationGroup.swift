// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The checked header of an allocation group's free space (kernel, `fs/xfs/libxfs/xfs_format.h`, struct xfs_agf).
struct XFSAllocationGroup {
    /// A tree's root block inside the group, and its height.
    typealias Root = (block: UInt32, levelCount: UInt32)

    let number: UInt32
    /// In blocks.
    let blockCount: UInt32
    /// Free space by place, and by size.
    let byPlace: Root
    let bySize: Root
    /// Reverse mappings and reference counts, if there are such trees.
    let owners: Root?
    let references: Root?
    let freeBlockCount: UInt32
    /// The first and the last used entry of the free list, and their number.
    let freeListFirst: UInt32
    let freeListLast: UInt32
    let freeListCount: UInt32
    let lsn: UInt64

    /// - Parameter bytes: the second sector of the group.
    init(_ bytes: [UInt8], number: UInt32, of superblock: XFSSuperblock) throws(FilesystemError) {
        let what = "the header of its allocation group \(number)"
        if superblock.hasChecksums, !XFSChecksum.isRight(bytes, fieldAt: XFSChecksum.groupHeaderOffset) {
            throw .damaged("the checksum of \(what) is wrong")
        }
        let fields = try FilesystemError.parsing { () throws(ParsingError) in try Fields(bytes) }
        guard fields.magic == 0x5841_4746, fields.version == 1, fields.number == number,
            UInt64(fields.blockCount) == superblock.blockCount(ofGroup: UInt64(number)),
            !superblock.hasChecksums || fields.uuid == superblock.metadataUUID
        else { throw .damaged("\(what) is not valid") }
        self.number = number
        blockCount = fields.blockCount
        byPlace = fields.byPlace
        bySize = fields.bySize
        owners = superblock.has(readOnlyCompatible: XFSFeature.reverseMappings) ? fields.owners : nil
        references = superblock.has(readOnlyCompatible: XFSFeature.reflink) ? fields.references : nil
        freeBlockCount = fields.freeBlockCount
        freeListFirst = fields.freeListFirst
        freeListLast = fields.freeListLast
        freeListCount = fields.freeListCount
        lsn = superblock.hasChecksums ? fields.lsn : 0
        guard freeBlockCount <= blockCount,
            [byPlace, bySize, owners, references].compactMap({ $0 }).allSatisfy({
                $0.levelCount >= 1 && $0.levelCount <= XFSTree.levelLimit
            })
        else { throw .damaged("\(what) is not valid") }
    }

    /// The blocks reserved for growth of the free-space trees (struct xfs_agfl; version 4 has only the list).
    /// - Parameter bytes: the fourth sector of the group.
    func freeList(_ bytes: [UInt8], of superblock: XFSSuperblock) throws(FilesystemError) -> [UInt32] {
        let what = "the free list of its allocation group \(number)"
        let start = superblock.hasChecksums ? 36 : 0
        if superblock.hasChecksums {
            guard XFSChecksum.isRight(bytes, fieldAt: XFSChecksum.freeListOffset) else {
                throw .damaged("the checksum of \(what) is wrong")
            }
            // agfl_magicnum, agfl_seqno, agfl_uuid
            let (magic, owner, uuid) = try FilesystemError.parsing { () throws(ParsingError) in
                (
                    try bytes.bigEndian(UInt32.self, at: 0), try bytes.bigEndian(UInt32.self, at: 4),
                    try bytes.bytes(at: 8, count: 16)
                )
            }
            guard magic == 0x5841_464C, owner == number, uuid == superblock.metadataUUID else {
                throw .damaged("\(what) is not valid")
            }
        }
        let size = UInt32(clamping: (bytes.count - start) / 4)
        guard freeListFirst < size, freeListLast < size, freeListCount <= size else {
            throw .damaged("\(what) is not valid")
        }
        guard freeListCount > 0 else { return [] }
        // Kernel versions disagreed about its length by one entry; where the count does not fit, the next mount empties
        // the list (xfs_agfl_needs_reset), and its blocks are lost until a repair. They are used in either case.
        let wraps: UInt32 = freeListLast < freeListFirst ? size : 0
        guard freeListLast + wraps - freeListFirst + 1 == freeListCount else { return [] }
        var blocks: [UInt32] = []
        for index in 0..<freeListCount {
            let place = start + Int((freeListFirst + index) % size) * 4
            blocks.append(
                try FilesystemError.parsing { () throws(ParsingError) in
                    try bytes.bigEndian(UInt32.self, at: place)
                })
        }
        return blocks
    }

    /// As stored on the disk.
    private struct Fields {
        let magic, version, number, blockCount: UInt32
        let byPlace, bySize, owners, references: Root
        let freeListFirst, freeListLast, freeListCount, freeBlockCount: UInt32
        let uuid: [UInt8]
        let lsn: UInt64

        init(_ bytes: [UInt8]) throws(ParsingError) {
            magic = try bytes.bigEndian(at: 0)  // agf_magicnum
            version = try bytes.bigEndian(at: 4)  // agf_versionnum
            number = try bytes.bigEndian(at: 8)  // agf_seqno
            blockCount = try bytes.bigEndian(at: 12)  // agf_length
            // agf_bno_root, agf_bno_level, agf_cnt_root, agf_cnt_level
            byPlace = (try bytes.bigEndian(at: 16), try bytes.bigEndian(at: 28))
            bySize = (try bytes.bigEndian(at: 20), try bytes.bigEndian(at: 32))
            // agf_rmap_root, agf_rmap_level
            owners = (try bytes.bigEndian(at: 24), try bytes.bigEndian(at: 36))
            freeListFirst = try bytes.bigEndian(at: 40)  // agf_flfirst
            freeListLast = try bytes.bigEndian(at: 44)  // agf_fllast
            freeListCount = try bytes.bigEndian(at: 48)  // agf_flcount
            freeBlockCount = try bytes.bigEndian(at: 52)  // agf_freeblks
            uuid = try bytes.bytes(at: 64, count: 16)  // agf_uuid
            // agf_refcount_root, agf_refcount_level
            references = (try bytes.bigEndian(at: 88), try bytes.bigEndian(at: 92))
            lsn = try bytes.bigEndian(at: 208)  // agf_lsn
        }
    }
}
