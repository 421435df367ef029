// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// Grows an exFAT volume in place, as far as its FAT and allocation bitmap have space for more clusters;
/// initramfs/exfat-volume.py creates the REFORGE volume with such space. Nothing moves. Numbers in brackets are
/// sections of Microsoft's exFAT specification 1.00.
package enum ExFATGrower {
    /// The result of a growth.
    package struct Growth: Equatable, Sendable {
        /// The number of clusters before.
        package var oldClusterCount: UInt32
        /// The number of clusters now.
        package var newClusterCount: UInt32
        /// The length of a cluster in bytes.
        package var clusterByteCount: UInt64
    }

    /// Grows the filesystem to the end of its volume, or as far as its structures allow, if at all.
    ///
    /// The order of the writes, with a flush after each: new bits of the bitmap, the length of the bitmap, the backup
    /// boot region, the main boot region. After a power cut, the volume mounts with the old or the new size, unless the
    /// main region is torn; the next call then restores that region from the backup.
    package static func grow(_ volume: any BlockWriter) throws(GrowthError) -> Growth {
        try GrowthError.naming("the exFAT volume \(volume.name) stays as it is") { try run(volume) }
    }

    private static func run(_ volume: any BlockWriter) throws -> Growth {
        let boot = try mainRegion(of: volume)
        let sector = boot.sector
        guard !sector.isDirty else {
            throw ParsingError.invalid(what: "a volume that was not unmounted (fsck.exfat puts that right), which")
        }
        let bitmap = try Bitmap(of: volume, boot)
        let room = min(
            try (volume.byteCount / sector.sectorSize).subtracting(sector.heapOffset, "the place of the clusters")
                >> UInt64(sector.sectorsPerClusterShift),
            // [4.1] A FAT entry has four bytes, and the first two entries belong to no cluster.
            sector.fatSectorCount * sector.sectorSize / 4 - 2, bitmap.capacity, UInt64(UInt32.max - 10))
        let newCount = UInt32(room)
        // The field has four bytes.
        let oldCount = UInt32(clamping: sector.clusterCount)
        var growth = Growth(
            oldClusterCount: oldCount, newClusterCount: oldCount, clusterByteCount: sector.clusterSize)
        guard newCount > oldCount else { return growth }

        try bitmap.clear(from: oldCount, to: newCount, on: volume)
        try volume.flush()
        var length: [UInt8] = []
        length.appendLittleEndian((UInt64(newCount) + 7) / 8)
        try volume.writeBytes(length, at: bitmap.entryPosition + UInt64(ExFATEntry.dataLengthOffset))
        try volume.flush()
        let region = boot.region(clusterCount: newCount)
        for copy in [1, 0] as [UInt64] {
            try volume.writeBytes(region, at: copy * UInt64(region.count))
            try volume.flush()
        }
        growth.newClusterCount = newCount
        return growth
    }

    /// The main boot region, restored from the backup if a power cut tore it.
    private static func mainRegion(of volume: any BlockWriter) throws -> Boot {
        do {
            return try Boot(region: try region(of: volume, index: 0))
        } catch let error as ParsingError {
            // If the volume is not exFAT, its backup region is not valid either.
            guard let backup = try? region(of: volume, index: 1), let whole = try? Boot(region: backup) else {
                throw error
            }
            try volume.writeBytes(whole.region, at: 0)
            try volume.flush()
            return whole
        }
    }

    /// The bytes of the main (0) or backup (1) boot region.
    private static func region(of volume: any BlockReader, index: UInt64) throws -> [UInt8] {
        // [3.1.14] The sector size is in the first 512 bytes. The offset of the backup depends on it; if the main
        // region is damaged, 512 is tried.
        let start = try volume.readBytes(at: 0, count: 512)
        let shifts = ExFATBootSector.sectorSizeShifts
        let shift = Int(start[ExFATBootSector.Offset.bytesPerSectorShift])
        let isKnown = shifts.contains(shift)
        let sectorSize = index == 0 || isKnown ? 1 << min(max(shift, shifts.lowerBound), shifts.upperBound) : 512
        let count = ExFATBootSector.regionSectorCount * sectorSize
        return try volume.readBytes(at: index * UInt64(count), count: count)
    }

    /// A boot region, checked [3.1].
    struct Boot {
        let region: [UInt8]
        let sector: ExFATBootSector

        init(region: [UInt8]) throws(ParsingError) {
            guard let sector = try ExFATBootSector(region) else { throw .invalid(what: "an exFAT boot sector") }
            guard region.count == sector.regionByteCount else { throw .invalid(what: "the size of its sectors") }
            // A volume length beyond the end of the partition is no error here: such a volume just cannot grow.
            guard sector.problem(volumeByteCount: .max) == nil else {
                throw .invalid(what: "the layout in its boot sector")
            }
            guard try sector.isWhole(region) else { throw .invalid(what: "the checksum of its boot region") }
            self.region = region
            self.sector = sector
        }

        /// The offset of a cluster in bytes.
        /// - Throws: for an invalid cluster number.
        func position(of cluster: UInt32) throws(ParsingError) -> UInt64 {
            guard cluster >= 2, UInt64(cluster) < sector.clusterEnd else { throw .invalid(what: "cluster \(cluster)") }
            return sector.offset(ofCluster: UInt64(cluster))
        }

        /// The region with another cluster count, and the matching volume length and checksum.
        func region(clusterCount: UInt32) -> [UInt8] {
            var region = region
            region.setLittleEndian(
                sector.heapOffset + UInt64(clusterCount) << UInt64(sector.sectorsPerClusterShift),
                at: ExFATBootSector.Offset.volumeLength)
            region.setLittleEndian(clusterCount, at: ExFATBootSector.Offset.clusterCount)
            // [3.1.18] "not available": the old share of used clusters is no longer true.
            region[ExFATBootSector.Offset.percentInUse] = 0xFF
            sector.seal(&region)
            return region
        }
    }

    /// The allocation bitmap [7.1] and the space allocated for it.
    struct Bitmap {
        /// The offset of its directory entry, in bytes.
        let entryPosition: UInt64
        /// The offset of its first byte.
        let position: UInt64
        /// The number of clusters for which it has bits.
        let capacity: UInt64

        init(of volume: any BlockReader, _ boot: Boot) throws {
            let sector = boot.sector
            let start = try boot.position(of: sector.rootCluster)
            // The entry is among the first of the root directory: mkfs writes it there, and drivers do not move it.
            let head = try volume.readBytes(at: start, count: Int(min(sector.clusterSize, 1 << 16)))
            for at in stride(from: 0, to: head.count, by: ExFATEntry.byteCount) {
                guard head[at] != 0 else { break }
                guard head[at] == ExFATEntry.bitmap, head[at + ExFATEntry.bitmapFlagsOffset] & 1 == 0 else { continue }
                let cluster: UInt32 = try head.littleEndian(at: at + ExFATEntry.firstClusterOffset)
                let byteCount: UInt64 = try head.littleEndian(at: at + ExFATEntry.dataLengthOffset)
                // Longer than needed: a power cut interrupted a growth after the bitmap was written.
                guard byteCount >= (sector.clusterCount + 7) / 8, byteCount <= 1 << 29 else { break }
                entryPosition = start + UInt64(at)
                position = try boot.position(of: cluster)
                let clusters = try Bitmap.consecutiveClusters(from: cluster, volume, boot)
                capacity = try clusters.multiplied(by: sector.clusterSize * 8, "the bitmap's room")
                guard byteCount <= clusters * sector.clusterSize else { break }
                return
            }
            throw ParsingError.invalid(what: "its allocation bitmap")
        }

        /// The number of consecutive clusters at the start of the FAT chain (the bitmap is read as one piece).
        private static func consecutiveClusters(
            from first: UInt32, _ volume: any BlockReader, _ boot: Boot
        ) throws -> UInt64 {
            var cluster = first
            var count: UInt64 = 0
            // A bitmap has at most 512 MiB.
            while count < 1 << 16 {
                count += 1
                guard UInt64(cluster) < boot.sector.clusterEnd else {
                    throw ParsingError.invalid(what: "the bitmap's chain")
                }
                let next = try volume.readBytes(
                    at: boot.sector.fatByteOffset + UInt64(cluster) * 4, count: 4
                ).littleEndian(UInt32.self, at: 0)
                guard next == cluster &+ 1 else { return count }
                cluster = next
            }
            return count
        }

        /// Clears the bits of clusters `first..<end` (counted from 0), the lowest bit of a byte first.
        func clear(from first: UInt32, to end: UInt32, on volume: any BlockWriter) throws {
            let firstByte = UInt64(first) / 8
            let endByte = (UInt64(end) + 7) / 8
            var at = firstByte
            while at < endByte {
                let count = Int(min(endByte - at, 1 << 20))
                var bits = [UInt8](repeating: 0, count: count)
                if at == firstByte {
                    bits[0] = try volume.readBytes(at: position + at, count: 1)[0] & UInt8((1 << (first % 8)) - 1)
                }
                try volume.writeBytes(bits, at: position + at)
                at += UInt64(count)
            }
        }
    }
}
