// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The main boot region of an exFAT (Microsoft, "exFAT file system specification", §3).
struct ExFATBootSector {
    /// The length according to the volume; the partition may be longer.
    let sectorCount: UInt64
    let sectorSizeShift: Int
    let sectorsPerClusterShift: Int
    let fatOffset: UInt64
    let fatSectorCount: UInt64
    let heapOffset: UInt64
    let clusterCount: UInt64
    let rootCluster: UInt32
    let serialNumber: UInt32
    let revisionMajor: UInt8
    let flags: UInt16
    let fatCount: Int

    /// `nil` where the sector is no exFAT boot sector.
    init?(_ sector: [UInt8]) throws(ParsingError) {
        guard try sector.bytes(at: 3, count: 8) == Array("EXFAT   ".utf8),  // FileSystemName
            try sector.littleEndian(UInt16.self, at: 510) == 0xAA55,  // BootSignature
            // MustBeZero: where FAT has its BPB.
            try sector.bytes(at: 11, count: 53).allSatisfy({ $0 == 0 })
        else { return nil }
        sectorCount = try sector.littleEndian(at: 72)  // VolumeLength
        fatOffset = UInt64(try sector.littleEndian(UInt32.self, at: 80))  // FatOffset
        fatSectorCount = UInt64(try sector.littleEndian(UInt32.self, at: 84))  // FatLength
        heapOffset = UInt64(try sector.littleEndian(UInt32.self, at: 88))  // ClusterHeapOffset
        clusterCount = UInt64(try sector.littleEndian(UInt32.self, at: 92))  // ClusterCount
        rootCluster = try sector.littleEndian(at: 96)  // FirstClusterOfRootDirectory
        serialNumber = try sector.littleEndian(at: 100)  // VolumeSerialNumber
        revisionMajor = try sector.littleEndian(at: 105)  // FileSystemRevision, high byte
        flags = try sector.littleEndian(at: 106)  // VolumeFlags
        sectorSizeShift = Int(try sector.littleEndian(UInt8.self, at: 108))  // BytesPerSectorShift
        sectorsPerClusterShift = Int(try sector.littleEndian(UInt8.self, at: 109))  // SectorsPerClusterShift
        fatCount = Int(try sector.littleEndian(UInt8.self, at: 110))  // NumberOfFats
        // §3.1.14 and §3.1.15; the code below relies on them.
        guard (9...12).contains(sectorSizeShift), sectorsPerClusterShift <= 25 - sectorSizeShift,
            sectorCount <= 1 << 52
        else { return nil }
    }

    /// In bytes.
    var sectorSize: UInt64 { 1 << UInt64(sectorSizeShift) }
    /// In bytes; at most 32 MiB.
    var clusterSize: UInt64 { 1 << UInt64(sectorSizeShift + sectorsPerClusterShift) }
    var byteCount: UInt64 { sectorCount << UInt64(sectorSizeShift) }
    var fatByteOffset: UInt64 { fatOffset << UInt64(sectorSizeShift) }
    var heapByteOffset: UInt64 { heapOffset << UInt64(sectorSizeShift) }
    /// Clusters count from 2 (§3.1.9): the first invalid number.
    var clusterEnd: UInt64 { clusterCount + 2 }
    /// The offset of a cluster from 2 to `clusterEnd`. Below 2^58.
    func offset(ofCluster cluster: UInt64) -> UInt64 { heapByteOffset + (cluster - 2) * clusterSize }
    /// VolumeDirty (§3.1.13.2): a write was not completed.
    var isDirty: Bool { flags & 2 != 0 }
    /// MediaFailure (§3.1.13.3).
    var hasFailedMedia: Bool { flags & 4 != 0 }

    /// Why it cannot be used, as a sentence part.
    func problem(volumeByteCount: UInt64) -> String? {
        if revisionMajor != 1 { return "its revision \(revisionMajor) is not known" }
        if byteCount > volumeByteCount { return "it is larger than its partition" }
        // TexFAT, which only Windows CE writes.
        if fatCount != 1 || flags & 1 != 0 { return "it has two FATs" }
        // §3.1.5–§3.1.9: 24 sectors of boot regions, the FAT, the heap.
        guard fatOffset >= 24, fatOffset + fatSectorCount <= heapOffset,
            fatSectorCount << UInt64(sectorSizeShift) >= clusterEnd * 4
        else { return "its FAT has no room" }
        guard clusterCount > 0, clusterCount <= 0xFFFF_FFF5,
            offset(ofCluster: clusterEnd) <= byteCount
        else { return "its clusters go beyond its end" }
        if UInt64(rootCluster) < 2 || UInt64(rootCluster) >= clusterEnd { return "its root folder lies outside it" }
        return nil
    }

    /// The checksum of the first eleven sectors of a boot region (§3.4, figure 1), which fills the twelfth.
    static func checksum(_ region: ArraySlice<UInt8>) -> UInt32 {
        var sum: UInt32 = 0
        for (index, byte) in region.enumerated() where ![106, 107, 112].contains(index) {
            sum = (sum >> 1 | sum << 31) &+ UInt32(byte)
        }
        return sum
    }
}
