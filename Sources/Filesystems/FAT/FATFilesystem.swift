// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// FAT12, FAT16 and FAT32: the used ranges.
enum FATFilesystem {
    static let format = FilesystemFormat(kindNames: ["vfat"], survey: survey, prove: prove)

    /// The bytes of each FAT in one read.
    private static let batchByteCount: UInt64 = 3 << 18

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard volume.byteCount >= 512 else { return nil }
        let sector = try volume.readBytes(at: 0, count: 512)
        // BitLocker on a removable disk shows a FAT that only describes it.
        guard let boot = (try? FATBootSector(sector)) ?? nil, try !BitLockerVolume.isEncrypted(volume) else {
            return nil
        }
        var info = describe(boot)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        if let problem = boot.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        do throws(FilesystemError) {
            info.label = try label(volume, boot)
            info.isClean = true
            if let reason = try uncleanReason(volume, boot) {
                info.isClean = false
                return (info.takenWhole(because: reason), whole)
            }
            let map = try map(volume, boot)
            info.mapSource = .allocationStructures
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    /// The first file or folder whose chain contains a cluster that is not in the map.
    private static func prove(_ volume: any BlockReader, _ contents: VolumeContents) throws(BlockIOError) -> String? {
        do throws(FilesystemError) {
            var proof = FATOwnerProof(try FATVolume(volume), contents.allocation)
            try proof.run()
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    private static func describe(_ boot: FATBootSector) -> FilesystemInfo {
        FilesystemInfo(
            kind: boot.kind, kindName: "vfat", uuid: boot.serialNumber.map(FilesystemInfo.serialText),
            byteCount: boot.byteCount,
            blockSize: Int(boot.clusterSize), sectorSize: Int(boot.sectorSize), mapSource: .whole)
    }

    /// The label of the root folder, which `fatlabel` and Windows change, before the boot sector's.
    private static func label(_ volume: any BlockReader, _ boot: FATBootSector) throws(FilesystemError) -> String? {
        let folder = try FATVolume(volume).rootFolderBytes()
        let text = FATFolder.label(folder) ?? boot.label.map { FATFolder.text($0) }
        return text == "NO NAME" || text?.isEmpty == true ? nil : text
    }

    /// Why it may have open changes ("FAT Data Structure": ClnShutBitMask and HrdErrBitMask of FAT[1]; and the byte in
    /// the boot sector that Linux sets while it is mounted).
    private static func uncleanReason(
        _ volume: any BlockReader, _ boot: FATBootSector
    ) throws(FilesystemError) -> String? {
        var table = FATTable(volume, boot)
        let first = try table.value(0)
        guard UInt8(truncatingIfNeeded: first) == boot.media else {
            return "its FAT does not start with its media byte"
        }
        let second = try table.value(1)
        // FAT12 has no room for these two bits.
        let (cleanBit, noErrorBit): (UInt32, UInt32) =
            boot.entryBits == 32 ? (1 << 27, 1 << 26) : boot.entryBits == 16 ? (1 << 15, 1 << 14) : (0, 0)
        if boot.isMarkedInUse || second & cleanBit != cleanBit { return "it was not cleanly unmounted" }
        if second & noErrorBit != noErrorBit { return "it is marked as having disk errors" }
        return nil
    }

    /// Everything up to the first cluster, every cluster whose entry is not zero in either FAT (bad ones too), and
    /// everything behind the last cluster.
    private static func map(
        _ volume: any BlockReader, _ boot: FATBootSector
    ) throws(FilesystemError) -> AllocationMap {
        var used = RangeAccumulator()
        used.append(0..<boot.dataOffset)
        let bits = UInt64(boot.entryBits)
        // More than two are legal but never made; readers use the first.
        let fats = boot.activeFAT.map { $0..<$0 + 1 } ?? 0..<min(boot.fatCount, 2)
        // Whole entries, and pairs of them, in every read: 3 << 18 is a multiple of 3 and 4.
        let perBatch = batchByteCount * 8 / bits
        var cluster: UInt64 = 0
        while cluster < boot.clusterEnd {
            let end = min(cluster + perBatch, boot.clusterEnd)
            let start = cluster * bits / 8
            let byteCount = Int((end * bits + 7) / 8 - start)
            var entries: [UInt8] = []
            for index in fats {
                let bytes = try FilesystemError.reading { () throws(BlockIOError) in
                    try volume.readBytes(at: boot.offset(ofFAT: index) + start, count: byteCount)
                }
                if entries.isEmpty {
                    entries = bytes
                } else if entries != bytes {
                    for place in entries.indices { entries[place] |= bytes[place] }
                }
            }
            forEachUsedRun(entries, entryBits: boot.entryBits, count: Int(end - cluster)) { run in
                // The first two entries are no clusters.
                let first = max(2, cluster + UInt64(run.lowerBound))
                let last = cluster + UInt64(run.upperBound)
                guard first < last else { return }
                used.append(boot.offset(ofCluster: first)..<boot.offset(ofCluster: last))
            }
            cluster = end
        }
        used.append(boot.offset(ofCluster: boot.clusterEnd)..<volume.byteCount)
        return used.map(byteCount: volume.byteCount)
    }

    /// Runs of nonzero entries among the first `count` of `entries`, which has at least that many.
    private static func forEachUsedRun(
        _ entries: [UInt8], entryBits: Int, count: Int, _ body: (Range<Int>) -> Void
    ) {
        var runStart: Int?
        for index in 0..<count {
            let place = index * entryBits / 8
            let isUsed =
                switch entryBits {
                case 12:
                    index % 2 == 0
                        ? entries[place] | entries[place + 1] & 0x0F != 0
                        : entries[place] & 0xF0 | entries[place + 1] != 0
                case 16: entries[place] | entries[place + 1] != 0
                default:
                    entries[place] | entries[place + 1] | entries[place + 2] | entries[place + 3] & 0x0F != 0
                }
            if isUsed == (runStart != nil) { continue }
            if let start = runStart {
                body(start..<index)
                runStart = nil
            } else {
                runStart = index
            }
        }
        if let start = runStart { body(start..<count) }
    }
}
