// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import JobModel

/// Grows an exFAT volume in place, where its FAT and allocation bitmap have room for more clusters than it has: as
/// initramfs/exfat-volume.py makes the REFORGE volume. Nothing moves. Numbers in brackets are sections of Microsoft's
/// exFAT specification 1.00.
package enum ExFATGrower {
    /// What was done.
    package struct Growth: Equatable, Sendable {
        /// The number of clusters before.
        package var oldClusterCount: UInt32
        /// The number of clusters now.
        package var newClusterCount: UInt32
        /// The length of a cluster in bytes.
        package var clusterByteCount: UInt64
    }

    /// Sectors of a boot region [3.1]; the last one holds the checksum.
    private static let regionSectorCount = 12

    /// Lets the filesystem fill its volume as far as its structures have room. Does nothing where it does already.
    ///
    /// The order of the writes, with a flush after each: new bits of the bitmap, the length of the bitmap, the backup boot
    /// region, the main boot region. After a power cut the volume mounts, small or large; only while the main region is
    /// torn it does not, and the next call puts it right from the backup.
    /// - Throws: status 65 where the volume is not as expected (then nothing is written), 74 where reading or writing failed.
    package static func grow(_ volume: any BlockWriter) throws(JobFailure) -> Growth {
        do {
            return try run(volume)
        } catch let error as ParsingError {
            throw JobFailure(.badImage, "the exFAT volume \(volume.name) stays as it is: \(error)")
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
    }

    private static func run(_ volume: any BlockWriter) throws -> Growth {
        var boot: Boot
        do {
            boot = try Boot(region: try region(of: volume, index: 0))
        } catch let error as ParsingError {
            // The main region was torn by a power cut, or this is no exFAT at all: then the backup is none either.
            guard let backup = try? region(of: volume, index: 1), let whole = try? Boot(region: backup) else {
                throw error
            }
            try volume.writeBytes(whole.region, at: 0)
            try volume.flush()
            boot = whole
        }
        guard !boot.isDirty else {
            throw ParsingError.invalid(what: "a volume that was not unmounted (fsck.exfat puts that right), which")
        }
        let bitmap = try Bitmap(of: volume, boot)
        let room = min(
            try (volume.byteCount / boot.sectorByteCount).subtracting(boot.heapOffset, "the place of the clusters")
                >> boot.clusterShift,
            // [4.1] A FAT entry has four bytes, and the first two are no clusters'.
            boot.fatSectorCount * boot.sectorByteCount / 4 - 2, bitmap.capacity, UInt64(UInt32.max - 10))
        let newCount = UInt32(room)
        var growth = Growth(
            oldClusterCount: boot.clusterCount, newClusterCount: boot.clusterCount,
            clusterByteCount: boot.clusterByteCount)
        guard newCount > boot.clusterCount else { return growth }

        try bitmap.clear(from: boot.clusterCount, to: newCount, on: volume)
        try volume.flush()
        var length: [UInt8] = []
        length.appendLittleEndian((UInt64(newCount) + 7) / 8)
        try volume.writeBytes(length, at: bitmap.entryPosition + 24)
        try volume.flush()
        boot.setClusterCount(newCount)
        for copy in [1, 0] as [UInt64] {
            try volume.writeBytes(boot.region, at: copy * UInt64(boot.region.count))
            try volume.flush()
        }
        growth.newClusterCount = newCount
        return growth
    }

    /// The bytes of the main (0) or backup (1) boot region.
    private static func region(of volume: any BlockReader, index: UInt64) throws -> [UInt8] {
        // [3.1.14] The sector's size stands in the first 512 bytes. The backup's place depends on it; where the main
        // region is damaged, 512 is tried.
        let start = try volume.readBytes(at: 0, count: 512)
        let shift = start[108]
        let sectorByteCount = index == 0 || (9...12).contains(shift) ? UInt64(1) << UInt64(min(max(shift, 9), 12)) : 512
        let count = sectorByteCount * UInt64(regionSectorCount)
        return try volume.readBytes(at: index * count, count: Int(count))
    }

    /// A boot region, checked [3.1].
    struct Boot {
        private(set) var region: [UInt8]
        let sectorByteCount: UInt64
        let clusterShift: UInt64
        let fatOffset: UInt64
        let fatSectorCount: UInt64
        let heapOffset: UInt64
        private(set) var clusterCount: UInt32
        let rootCluster: UInt32

        init(region: [UInt8]) throws(ParsingError) {
            guard try region.bytes(at: 3, count: 8) == Array("EXFAT   ".utf8),
                try region.littleEndian(UInt16.self, at: 510) == 0xAA55,
                // [3.1.3] MustBeZero: where FAT has its numbers.
                try region.bytes(at: 11, count: 53).allSatisfy({ $0 == 0 })
            else { throw .invalid(what: "an exFAT boot sector") }
            let sectorShift = try region.littleEndian(UInt8.self, at: 108)
            let clusterShift = try region.littleEndian(UInt8.self, at: 109)
            guard (9...12).contains(sectorShift), clusterShift <= 25 - sectorShift,
                region.count == ExFATGrower.regionSectorCount << Int(sectorShift)
            else { throw .invalid(what: "the size of its sectors and clusters") }
            sectorByteCount = 1 << UInt64(sectorShift)
            self.clusterShift = UInt64(clusterShift)
            fatOffset = UInt64(try region.littleEndian(UInt32.self, at: 80))
            fatSectorCount = UInt64(try region.littleEndian(UInt32.self, at: 84))
            heapOffset = UInt64(try region.littleEndian(UInt32.self, at: 88))
            clusterCount = try region.littleEndian(at: 92)
            rootCluster = try region.littleEndian(at: 96)
            let volumeLength: UInt64 = try region.littleEndian(at: 72)
            self.region = region
            // [3.1.5 to 3.1.9, 3.1.16] One FAT; the FAT behind the two boot regions, the clusters behind the FAT.
            guard try region.littleEndian(UInt8.self, at: 110) == 1, fatOffset >= 24, fatSectorCount > 0,
                heapOffset >= fatOffset + fatSectorCount, clusterCount > 0,
                UInt64(clusterCount) + 2 <= fatSectorCount * sectorByteCount / 4,
                heapOffset + UInt64(clusterCount) << self.clusterShift <= volumeLength
            else { throw .invalid(what: "the layout in its boot sector") }
            let checksumAt = region.count - Int(sectorByteCount)
            let expected = Boot.checksum(region[..<checksumAt])
            for at in stride(from: checksumAt, to: region.count, by: 4) {
                guard try region.littleEndian(UInt32.self, at: at) == expected else {
                    throw .invalid(what: "the checksum of its boot region")
                }
            }
        }

        var clusterByteCount: UInt64 { sectorByteCount << clusterShift }
        /// [3.1.13.2] VolumeDirty.
        var isDirty: Bool { region[106] & 2 != 0 }

        /// Where a cluster lies, in bytes; an error for a number that is none's.
        func position(of cluster: UInt32) throws(ParsingError) -> UInt64 {
            guard cluster >= 2, cluster - 2 < clusterCount else { throw .invalid(what: "cluster \(cluster)") }
            return (heapOffset + UInt64(cluster - 2) << clusterShift) * sectorByteCount
        }

        /// Sets the count, the volume's length and the checksum.
        mutating func setClusterCount(_ count: UInt32) {
            clusterCount = count
            region.setLittleEndian(heapOffset + UInt64(count) << clusterShift, at: 72)
            region.setLittleEndian(count, at: 92)
            // [3.1.18] "not available": the old share of used clusters is no longer true.
            region[112] = 0xFF
            let checksumAt = region.count - Int(sectorByteCount)
            let value = Boot.checksum(region[..<checksumAt])
            for at in stride(from: checksumAt, to: region.count, by: 4) { region.setLittleEndian(value, at: at) }
        }

        /// [3.4] Over the first eleven sectors, without VolumeFlags and PercentInUse.
        static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
            var sum: UInt32 = 0
            for (index, byte) in bytes.enumerated() where index != 106 && index != 107 && index != 112 {
                sum = (sum >> 1 | sum << 31) &+ UInt32(byte)
            }
            return sum
        }
    }

    /// The allocation bitmap [7.1] and the room that was allocated for it.
    struct Bitmap {
        /// Where its directory entry lies, in bytes.
        let entryPosition: UInt64
        /// Where its first byte lies.
        let position: UInt64
        /// How many clusters it has bits for.
        let capacity: UInt64

        init(of volume: any BlockReader, _ boot: Boot) throws {
            let start = try boot.position(of: boot.rootCluster)
            // The entry is among the first of the root directory: mkfs writes it there, and nobody moves it.
            let head = try volume.readBytes(at: start, count: Int(min(boot.clusterByteCount, 1 << 16)))
            for at in stride(from: 0, to: head.count, by: 32) {
                guard head[at] != 0 else { break }
                // [7.1.1, 7.1.2] In use, a bitmap, and the first FAT's.
                guard head[at] == 0x81, head[at + 1] & 1 == 0 else { continue }
                let cluster: UInt32 = try head.littleEndian(at: at + 20)
                let byteCount: UInt64 = try head.littleEndian(at: at + 24)
                // Longer than needed: a growth that lost its power after the bitmap.
                guard byteCount >= (UInt64(boot.clusterCount) + 7) / 8, byteCount <= 1 << 29 else { break }
                entryPosition = start + UInt64(at)
                position = try boot.position(of: cluster)
                let clusters = try Bitmap.consecutiveClusters(from: cluster, volume, boot)
                capacity = try clusters.multiplied(by: boot.clusterByteCount * 8, "the bitmap's room")
                guard byteCount <= clusters * boot.clusterByteCount else { break }
                return
            }
            throw ParsingError.invalid(what: "its allocation bitmap")
        }

        /// How many clusters the FAT chain has that lie one behind the other (a bitmap is read as one piece).
        private static func consecutiveClusters(
            from first: UInt32, _ volume: any BlockReader, _ boot: Boot
        ) throws -> UInt64 {
            var cluster = first
            var count: UInt64 = 0
            // 512 MiB of bitmap would be enough for any exFAT.
            while count < 1 << 16 {
                count += 1
                guard cluster - 2 < boot.clusterCount else { throw ParsingError.invalid(what: "the bitmap's chain") }
                let next = try volume.readBytes(
                    at: boot.fatOffset * boot.sectorByteCount + UInt64(cluster) * 4, count: 4
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
