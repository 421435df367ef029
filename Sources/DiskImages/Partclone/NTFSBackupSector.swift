// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The backup of an NTFS boot sector: the last sector of the volume, behind the last cluster, so that partclone's blocks
/// do not include it. Without it, Windows cannot repair a damaged boot sector.
struct NTFSBackupSector {
    /// Its place in the volume.
    let range: ByteRange
    private let bytes: [UInt8]

    /// - Parameters:
    ///   - bootSector: the first bytes of the volume.
    ///   - room: the bytes that the volume may have. Version 0001 states only the length of its blocks.
    /// - Returns: `nil` for another filesystem, or where the blocks include the place.
    init?(bootSector: [UInt8], _ header: PartcloneHeader, room: UInt64) {
        guard bootSector.dropFirst(3).starts(with: Array("NTFS    ".utf8)),
            let sectorSize: UInt16 = try? bootSector.littleEndian(at: 11), [512, 4096].contains(sectorSize),
            let bytes = try? bootSector.bytes(at: 0, count: Int(sectorSize)),
            // The number of sectors, without this one.
            let sectors: UInt64 = try? bootSector.littleEndian(at: 40),
            let start = try? sectors.multiplied(by: UInt64(sectorSize), "the volume"),
            let range = ByteRange(offset: start, byteCount: UInt64(sectorSize)),
            // Behind the last whole cluster.
            start >= header.blocksByteCount, start - header.blocksByteCount < UInt64(header.blockSize),
            range.upperBound <= room
        else { return nil }
        self.range = range
        self.bytes = bytes
    }

    /// Copies the part of it that lies in `target`, which is at `offset` of the volume.
    func put(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {
        let part = range.clamped(to: offset..<offset + UInt64(target.count))
        guard !part.isEmpty else { return }
        unsafe UnsafeMutableRawBufferPointer(
            rebasing: target[Int(part.lowerBound - offset)..<Int(part.upperBound - offset)]
        ).copyBytes(from: bytes[Int(part.lowerBound - range.lowerBound)..<Int(part.upperBound - range.lowerBound)])
    }
}
