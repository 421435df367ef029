// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// exFAT: its used ranges according to its allocation bitmap. Section numbers are those of Microsoft's "exFAT
/// file system specification".
enum ExFATFilesystem {
    static let format = FilesystemFormat(kindNames: ["exfat"], survey: survey, prove: prove)

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard volume.byteCount >= 512 else { return nil }
        let sector = try volume.readBytes(at: 0, count: 512)
        guard let boot = (try? ExFATBootSector(sector)) ?? nil else { return nil }
        var info = FilesystemInfo(
            kind: .exfat, kindName: "exfat", uuid: FilesystemInfo.serialText(boot.serialNumber),
            byteCount: boot.byteCount, blockSize: Int(boot.clusterSize), sectorSize: Int(boot.sectorSize),
            mapSource: .whole)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        if let problem = boot.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        do throws(FilesystemError) {
            try checkBootRegion(volume, boot)
            let root = try RootFolder(volume, boot)
            info.label = root.label
            info.isClean = !boot.isDirty && !boot.hasFailedMedia
            if boot.isDirty { return (info.takenWhole(because: "it was not cleanly unmounted"), whole) }
            if boot.hasFailedMedia { return (info.takenWhole(because: "it is marked as having disk errors"), whole) }
            let map = try map(volume, boot, root)
            info.mapSource = .allocationStructures
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    /// The first file or folder with a cluster that is not in the map.
    private static func prove(_ volume: any BlockReader, _ contents: VolumeContents) throws(BlockIOError) -> String? {
        guard let boot = (try? ExFATBootSector(try volume.readBytes(at: 0, count: 512))) ?? nil else { return nil }
        var proof = ExFATOwnerProof(volume, boot, contents.allocation)
        do throws(FilesystemError) {
            try proof.run()
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    /// §3.4: the twelfth sector is filled with the checksum of those before.
    private static func checkBootRegion(
        _ volume: any BlockReader, _ boot: ExFATBootSector
    ) throws(FilesystemError) {
        let region = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: 0, count: boot.regionByteCount)
        }
        let isWhole = try FilesystemError.parsing { () throws(ParsingError) in try boot.isWhole(region) }
        guard isWhole else { throw .damaged("the checksum of its boot region is wrong") }
    }

    /// The relevant critical entries of the root folder.
    private struct RootFolder {
        var label: String?
        /// The clusters of the folder itself, of the bitmap, and of the up-case table.
        var folder: [UInt64]
        var bitmap: [UInt64]
        var upCase: [UInt64]
        var bitmapByteCount: UInt64

        /// The length limit of a root folder (§7: 256 MiB).
        private static let largest: UInt64 = 256 << 20
        /// §7.2.4: two bytes for each of 65,536 characters.
        private static let largestUpCase: UInt64 = 128 << 10

        init(_ volume: any BlockReader, _ boot: ExFATBootSector) throws(FilesystemError) {
            var table = ExFATTable(volume, boot)
            folder = try table.chain(from: boot.rootCluster, atMost: max(1, Self.largest / boot.clusterSize))
            var bitmaps: [(flags: UInt8, cluster: UInt32, byteCount: UInt64)] = []
            var upCases: [(cluster: UInt32, byteCount: UInt64)] = []
            reading: for cluster in folder {
                let bytes = try FilesystemError.reading { () throws(BlockIOError) in
                    try volume.readBytes(at: boot.offset(ofCluster: cluster), count: Int(boot.clusterSize))
                }
                for offset in stride(from: 0, to: bytes.count, by: ExFATEntry.byteCount) {
                    let entry = Array(bytes[offset..<offset + ExFATEntry.byteCount])
                    let (cluster, byteCount) = try FilesystemError.parsing { () throws(ParsingError) in
                        (
                            try entry.littleEndian(UInt32.self, at: ExFATEntry.firstClusterOffset),
                            try entry.littleEndian(UInt64.self, at: ExFATEntry.dataLengthOffset)
                        )
                    }
                    switch entry[0] {
                    case 0: break reading  // §6.2.1: nothing behind the end-of-directory marker is in use.
                    case ExFATEntry.bitmap:
                        bitmaps.append((entry[ExFATEntry.bitmapFlagsOffset], cluster, byteCount))
                    case ExFATEntry.upCase: upCases.append((cluster, byteCount))
                    case ExFATEntry.label: label = Self.text(entry)
                    default: break
                    }
                }
            }
            // With one FAT there is one bitmap, the first (§7.1.2).
            guard bitmaps.count == 1, bitmaps[0].flags & 1 == 0 else {
                throw .damaged("its root folder has \(bitmaps.count) allocation bitmaps")
            }
            guard upCases.count == 1 else { throw .damaged("its root folder has \(upCases.count) up-case tables") }
            bitmapByteCount = bitmaps[0].byteCount
            // §7.1.5: one bit per cluster, in whole bytes; some writers round it up further.
            let least = (boot.clusterCount + 7) / 8
            guard bitmapByteCount >= least, bitmapByteCount <= least + boot.clusterSize else {
                throw .damaged("its allocation bitmap has \(bitmapByteCount) bytes for \(boot.clusterCount) clusters")
            }
            guard upCases[0].byteCount > 0, upCases[0].byteCount <= Self.largestUpCase else {
                throw .damaged("its up-case table has \(upCases[0].byteCount) bytes")
            }
            bitmap = try table.chain(from: bitmaps[0].cluster, byteCount: bitmapByteCount)
            upCase = try table.chain(from: upCases[0].cluster, byteCount: upCases[0].byteCount)
        }

        /// At most 11 characters of UTF-16.
        private static func text(_ entry: [UInt8]) -> String? {
            let count = min(11, Int(entry[1]))
            let units = (0..<count).map { UInt16(entry[2 + 2 * $0]) | UInt16(entry[3 + 2 * $0]) << 8 }
            let text = String(decoding: units, as: UTF16.self)
            return text.isEmpty ? nil : text
        }
    }

    /// Everything before the clusters, the clusters whose bit is set, and everything behind the last cluster.
    private static func map(
        _ volume: any BlockReader, _ boot: ExFATBootSector, _ root: RootFolder
    ) throws(FilesystemError) -> AllocationMap {
        var used = RangeAccumulator()
        used.append(0..<boot.heapByteOffset)
        var done: UInt64 = 0
        for cluster in root.bitmap {
            let bytes = try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: boot.offset(ofCluster: cluster), count: Int(boot.clusterSize))
            }
            let count = Int(min(UInt64(bytes.count) * 8, boot.clusterCount - done))
            _ = Bitmap.forEachRun(in: bytes, at: 0, bitCount: count) { run in
                let first = 2 + done + UInt64(run.lowerBound)
                let last = 2 + done + UInt64(run.upperBound)
                used.append(boot.offset(ofCluster: first)..<boot.offset(ofCluster: last))
            }
            done += UInt64(count)
        }
        guard done == boot.clusterCount else { throw .damaged("its allocation bitmap is too short") }
        used.append(boot.offset(ofCluster: boot.clusterEnd)..<volume.byteCount)
        let map = used.map(byteCount: volume.byteCount)
        // A bitmap that marks its own clusters as free belongs to another volume, or is damaged.
        let system = AllocationMap(
            byteCount: volume.byteCount,
            unsorted: (root.folder + root.bitmap + root.upCase).map { cluster in
                boot.offset(ofCluster: cluster)..<boot.offset(ofCluster: cluster + 1)
            })
        guard system.ranges.allSatisfy({ map.covers($0) }) else {
            throw .damaged("its allocation bitmap calls free what it uses itself")
        }
        return map
    }
}

/// The FAT, read in parts, on demand (§4.1).
struct ExFATTable {
    private let volume: any BlockReader
    private let boot: ExFATBootSector
    private var part: [UInt8] = []
    private var partStart: UInt64 = 0
    /// Small: a chain may jump at every step.
    private static let partByteCount: UInt64 = 4 << 10

    init(_ volume: any BlockReader, _ boot: ExFATBootSector) {
        self.volume = volume
        self.boot = boot
    }

    /// The clusters of a content of `byteCount` bytes. Its chain may continue: preallocated room of its owner.
    mutating func chain(from first: UInt32, byteCount: UInt64) throws(FilesystemError) -> [UInt64] {
        let count = byteCount / boot.clusterSize + (byteCount % boot.clusterSize == 0 ? 0 : 1)
        let clusters = try chain(from: first, atMost: count, mayGoOn: true)
        guard UInt64(clusters.count) == count else {
            throw .damaged("a chain of \(clusters.count) clusters for \(byteCount) bytes")
        }
        return clusters
    }

    /// The clusters of a chain: at most `limit`, and all of them unless it may continue.
    mutating func chain(
        from first: UInt32, atMost limit: UInt64, mayGoOn: Bool = false
    ) throws(FilesystemError) -> [UInt64] {
        var clusters: [UInt64] = []
        var next = UInt64(first)
        repeat {
            guard next >= 2, next < boot.clusterEnd else { throw .damaged("a chain leads to cluster \(next)") }
            // This also stops a circular chain.
            guard UInt64(clusters.count) < limit, UInt64(clusters.count) < boot.clusterCount else {
                throw .damaged("a chain of more than \(limit) clusters")
            }
            clusters.append(next)
            if mayGoOn, UInt64(clusters.count) == limit { return clusters }
            next = try entry(next)
        } while next != 0xFFFF_FFFF
        return clusters
    }

    /// The FAT entry of a cluster between 2 and `clusterEnd`.
    mutating func entry(_ cluster: UInt64) throws(FilesystemError) -> UInt64 {
        let offset = cluster * 4
        if part.isEmpty || offset < partStart || offset + 4 > partStart + UInt64(part.count) {
            partStart = offset - offset % Self.partByteCount
            let count = min(Self.partByteCount, boot.clusterEnd * 4 - partStart)
            let start = boot.fatByteOffset + partStart
            part = try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: start, count: Int(count))
            }
        }
        let value = try FilesystemError.parsing { () throws(ParsingError) in
            try part.littleEndian(UInt32.self, at: Int(offset - partStart))
        }
        return UInt64(value)
    }
}
