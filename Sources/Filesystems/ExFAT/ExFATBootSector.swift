// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The main boot region of an exFAT (Microsoft, "exFAT file system specification", §3).
package struct ExFATBootSector: Sendable {
    /// The offsets of the fields, in bytes.
    package enum Offset {
        static let fileSystemName = 3
        static let mustBeZero = 11
        package static let volumeLength = 72
        static let fatOffset = 80
        static let fatLength = 84
        static let clusterHeapOffset = 88
        package static let clusterCount = 92
        static let firstClusterOfRootDirectory = 96
        static let volumeSerialNumber = 100
        /// The high byte of FileSystemRevision.
        static let revisionMajor = 105
        static let volumeFlags = 106
        package static let bytesPerSectorShift = 108
        static let sectorsPerClusterShift = 109
        static let numberOfFats = 110
        package static let percentInUse = 112
        static let bootSignature = 510
    }

    /// The valid values of BytesPerSectorShift (§3.1.14).
    package static let sectorSizeShifts = 9...12
    /// The length of a boot region in sectors; the last one is filled with the checksum of those before (§3.4).
    package static let regionSectorCount = 12

    /// VolumeLength; the partition may be longer.
    let sectorCount: UInt64
    let sectorSizeShift: Int
    /// SectorsPerClusterShift.
    package let sectorsPerClusterShift: Int
    /// The FAT's first sector.
    package let fatOffset: UInt64
    /// The length of the FAT.
    package let fatSectorCount: UInt64
    /// The first sector of cluster 2.
    package let heapOffset: UInt64
    /// The number of clusters.
    package let clusterCount: UInt64
    /// The first cluster of the root folder.
    package let rootCluster: UInt32
    let serialNumber: UInt32
    let revisionMajor: UInt8
    let flags: UInt16
    let fatCount: Int

    /// `nil` if it is not an exFAT boot sector.
    package init?(_ sector: [UInt8]) throws(ParsingError) {
        guard try sector.bytes(at: Offset.fileSystemName, count: 8) == Array("EXFAT   ".utf8),
            try sector.littleEndian(UInt16.self, at: Offset.bootSignature) == 0xAA55,
            // FAT has its BPB there.
            try sector.bytes(at: Offset.mustBeZero, count: 53).allSatisfy({ $0 == 0 })
        else { return nil }
        sectorCount = try sector.littleEndian(at: Offset.volumeLength)
        fatOffset = UInt64(try sector.littleEndian(UInt32.self, at: Offset.fatOffset))
        fatSectorCount = UInt64(try sector.littleEndian(UInt32.self, at: Offset.fatLength))
        heapOffset = UInt64(try sector.littleEndian(UInt32.self, at: Offset.clusterHeapOffset))
        clusterCount = UInt64(try sector.littleEndian(UInt32.self, at: Offset.clusterCount))
        rootCluster = try sector.littleEndian(at: Offset.firstClusterOfRootDirectory)
        serialNumber = try sector.littleEndian(at: Offset.volumeSerialNumber)
        revisionMajor = try sector.littleEndian(at: Offset.revisionMajor)
        flags = try sector.littleEndian(at: Offset.volumeFlags)
        sectorSizeShift = Int(try sector.littleEndian(UInt8.self, at: Offset.bytesPerSectorShift))
        sectorsPerClusterShift = Int(try sector.littleEndian(UInt8.self, at: Offset.sectorsPerClusterShift))
        fatCount = Int(try sector.littleEndian(UInt8.self, at: Offset.numberOfFats))
        // §3.1.14 and §3.1.15; the shifts below rely on these limits.
        guard Self.sectorSizeShifts.contains(sectorSizeShift), sectorsPerClusterShift <= 25 - sectorSizeShift,
            sectorCount <= 1 << 52
        else { return nil }
    }

    /// In bytes.
    package var sectorSize: UInt64 { 1 << UInt64(sectorSizeShift) }
    /// In bytes; at most 32 MiB.
    package var clusterSize: UInt64 { 1 << UInt64(sectorSizeShift + sectorsPerClusterShift) }
    var byteCount: UInt64 { sectorCount << UInt64(sectorSizeShift) }
    package var fatByteOffset: UInt64 { fatOffset << UInt64(sectorSizeShift) }
    var heapByteOffset: UInt64 { heapOffset << UInt64(sectorSizeShift) }
    /// The first invalid cluster number; clusters count from 2 (§3.1.9).
    package var clusterEnd: UInt64 { clusterCount + 2 }
    /// The offset of a cluster from 2 to `clusterEnd`, in bytes. Below 2^58.
    package func offset(ofCluster cluster: UInt64) -> UInt64 { heapByteOffset + (cluster - 2) * clusterSize }
    /// VolumeDirty (§3.1.13.2): the volume was written to and not unmounted.
    package var isDirty: Bool { flags & 2 != 0 }
    /// MediaFailure (§3.1.13.3).
    var hasFailedMedia: Bool { flags & 4 != 0 }

    /// Why its structures cannot be relied on, as a sentence part; `nil` if they can.
    package func problem(volumeByteCount: UInt64) -> String? {
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

    /// The length of a boot region in bytes.
    package var regionByteCount: Int { Self.regionSectorCount * Int(sectorSize) }
    private var checksumPlaces: StrideTo<Int> {
        stride(from: regionByteCount - Int(sectorSize), to: regionByteCount, by: 4)
    }

    /// Whether a boot region that starts with this sector has correct checksums.
    package func isWhole(_ region: [UInt8]) throws(ParsingError) -> Bool {
        guard region.count == regionByteCount else { return false }
        let sum = Self.checksum(region[..<(regionByteCount - Int(sectorSize))])
        for place in checksumPlaces {
            guard try region.littleEndian(UInt32.self, at: place) == sum else { return false }
        }
        return true
    }

    /// Writes the checksums into a boot region of `regionByteCount` bytes.
    package func seal(_ region: inout [UInt8]) {
        let sum = Self.checksum(region[..<(regionByteCount - Int(sectorSize))])
        for place in checksumPlaces { region.setLittleEndian(sum, at: place) }
    }

    /// The checksum of the first eleven sectors of a boot region, without VolumeFlags and PercentInUse, which fills the
    /// twelfth sector (§3.4, figure 1).
    package static func checksum(_ region: ArraySlice<UInt8>) -> UInt32 {
        let left = [Offset.volumeFlags, Offset.volumeFlags + 1, Offset.percentInUse]
        var sum: UInt32 = 0
        for (index, byte) in region.enumerated() where !left.contains(index) {
            sum = (sum >> 1 | sum << 31) &+ UInt32(byte)
        }
        return sum
    }
}
