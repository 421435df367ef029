// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport

@testable import Filesystems

/// An ext filesystem whose maps can be falsified, with matching counts and checksums.
struct ExtLies {
    var bytes: [UInt8]
    let superblock: ExtSuperblock

    init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        guard let superblock = try ExtSuperblock(Array(bytes[1024..<2048])) else {
            throw ToolFailure(description: "no ext filesystem")
        }
        self.superblock = superblock
    }

    private var blockSize: Int { superblock.blockSize }
    private func descriptorPlace(_ group: Int) -> Int {
        Int(superblock.superblockBlock + 1) * blockSize + group * superblock.descriptorSize
    }
    private func field(_ group: Int, _ offset: Int) throws -> Int {
        Int(try bytes.littleEndian(UInt16.self, at: descriptorPlace(group) + offset))
    }
    func inodeTable(_ group: Int) throws -> Int {
        Int(try bytes.littleEndian(UInt32.self, at: descriptorPlace(group) + 8)) * blockSize
    }

    /// Marks the cluster of a block as free: in the bitmap, in the group's count, and in both checksums.
    mutating func free(block: UInt64) throws {
        let offset = block - UInt64(superblock.firstDataBlock)
        let group = Int(offset / UInt64(superblock.blocksPerGroup))
        let bit = Int(offset % UInt64(superblock.blocksPerGroup) / superblock.clusterRatio)
        let place = descriptorPlace(group)
        let bitmap = Int(try bytes.littleEndian(UInt32.self, at: place)) * blockSize
        guard bytes[bitmap + bit / 8] >> UInt8(bit % 8) & 1 == 1 else { return }
        bytes[bitmap + bit / 8] &= ~(1 << UInt8(bit % 8))
        bytes.setLittleEndian(UInt16(try field(group, 0xC) + 1), at: place + 0xC)
        let sum = ExtChecksum.crc32c(
            superblock.checksumSeed, Array(bytes[bitmap..<bitmap + Int(superblock.clustersPerGroup / 8)]))
        if superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum) {
            bytes.setLittleEndian(UInt16(truncatingIfNeeded: sum), at: place + 0x18)
            if superblock.descriptorSize >= 64 {
                bytes.setLittleEndian(UInt16(truncatingIfNeeded: sum >> 16), at: place + 0x38)
            }
        }
        try mend(group)
    }

    /// Sets flags of a group (1: no inode was ever used, 2: no block), and the matching counts.
    mutating func flag(_ group: Int, _ flags: UInt16, freeBlockCount: Int? = nil) throws {
        let place = descriptorPlace(group)
        bytes.setLittleEndian(UInt16(try field(group, 0x12)) | flags, at: place + 0x12)
        if flags & 1 != 0 {
            bytes.setLittleEndian(UInt16(superblock.inodesPerGroup), at: place + 0xE)
            bytes.setLittleEndian(UInt16(superblock.inodesPerGroup), at: place + 0x1C)
        }
        if let freeBlockCount { bytes.setLittleEndian(UInt16(freeBlockCount), at: place + 0xC) }
        try mend(group)
    }

    /// Clears the flag that the table was zeroed at creation.
    mutating func forgetZeroed(_ group: Int) throws {
        bytes.setLittleEndian(UInt16(try field(group, 0x12)) & ~4, at: descriptorPlace(group) + 0x12)
        try mend(group)
    }

    private mutating func mend(_ group: Int) throws {
        guard superblock.hasDescriptorChecksums else { return }
        let place = descriptorPlace(group)
        var raw = Array(bytes[place..<place + superblock.descriptorSize])
        raw.setLittleEndian(0 as UInt16, at: 0x1E)
        var number: [UInt8] = []
        number.appendLittleEndian(UInt32(group))
        let sum =
            superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum)
            ? UInt16(truncatingIfNeeded: ExtChecksum.crc32c(ExtChecksum.crc32c(superblock.checksumSeed, number), raw))
            : ExtChecksum.crc16(.max, superblock.uuid + number + raw[..<0x1E] + raw[0x20...])
        bytes.setLittleEndian(sum, at: place + 0x1E)
    }

    /// The result of a capture: why all of it counts as used.
    func reason(trustMaps: Bool = false) throws -> String? {
        try VolumeIdentifier.survey(MemoryDisk(bytes), trustMaps: trustMaps).0.wholeReason
    }
}
