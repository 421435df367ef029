// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// 64 slots for inodes, some of which may be absent (kernel, `fs/xfs/libxfs/xfs_format.h`, struct xfs_inobt_rec).
struct XFSInodeChunk {
    /// XFS_INODES_PER_CHUNK.
    static let inodeCount: UInt64 = 64
    /// XFS_INODES_PER_HOLEMASK_BIT.
    private static let inodesPerBit: UInt64 = 4

    /// The first inode, inside the group.
    let start: UInt32
    /// One bit per four inodes, set where they are absent.
    private let holes: UInt16

    init(_ bytes: [UInt8], at place: Int, of superblock: XFSSuperblock) throws(FilesystemError) {
        (start, holes) = try FilesystemError.parsing { () throws(ParsingError) in
            // ir_startino, and with sparse inodes ir_u.sp.ir_holemask
            (
                try bytes.bigEndian(UInt32.self, at: place),
                superblock.has(incompatible: XFSFeature.sparseInodes)
                    ? try bytes.bigEndian(UInt16.self, at: place + 4) : 0
            )
        }
    }

    var presentCount: UInt64 { UInt64((~holes).nonzeroBitCount) * Self.inodesPerBit }

    /// The inodes that are present, in as few ranges as possible.
    var runs: [Range<UInt64>] {
        var runs: [Range<UInt64>] = []
        for bit in 0..<16 as Range<UInt64> where holes >> bit & 1 == 0 {
            let first = UInt64(start) + bit * Self.inodesPerBit
            if let last = runs.last, last.upperBound == first {
                runs[runs.count - 1] = last.lowerBound..<first + Self.inodesPerBit
            } else {
                runs.append(first..<first + Self.inodesPerBit)
            }
        }
        return runs
    }
}
