// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Btrfs on one device.
enum BtrfsFilesystem {
    static let format = FilesystemFormat(kindNames: ["btrfs"], survey: survey, prove: contradiction)

    /// The Btrfs on `volume` and its used ranges; `nil` if there is none.
    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        // A mirror alone is no filesystem: it may be left over from an earlier one.
        guard let primary = try superblock(volume, at: BtrfsSuperblock.offsets[0]) else { return nil }
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        let (superblock, remarks, doubt) = try chosen(primary, volume)
        var info = describe(superblock)
        info.remarks = remarks
        if superblock.deviceCount > 1 || superblock.flags & BtrfsFlag.seeding != 0 {
            info.remarks.append("it must be restored together with all other devices of its filesystem")
        }
        if let problem = doubt ?? superblock.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        guard let checksum = BtrfsChecksum(rawValue: superblock.checksumType) else {
            return (info.takenWhole(because: "its checksum type is not known here"), whole)
        }
        do throws(FilesystemError) {
            var mapper = try BtrfsMapper(volume, superblock, checksum)
            let (map, leastByteCount) = try mapper.map()
            info.mapSource = .allocationStructures
            info.leastByteCount = leastByteCount
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    /// The first owner whose blocks are free in the map, as a sentence part; `nil` without one.
    static func contradiction(
        _ volume: any BlockReader, _ contents: VolumeContents
    ) throws(BlockIOError) -> String? {
        guard let primary = try superblock(volume, at: BtrfsSuperblock.offsets[0]) else {
            return "its superblock has changed since"
        }
        let (superblock, _, doubt) = try chosen(primary, volume)
        if let problem = doubt ?? superblock.problem(volumeByteCount: volume.byteCount) { return problem }
        guard let checksum = BtrfsChecksum(rawValue: superblock.checksumType) else { return nil }
        do throws(FilesystemError) {
            var mapper = try BtrfsMapper(volume, superblock, checksum)
            var proof = BtrfsProof(try mapper.blockReader(), contents.allocation)
            try proof.run()
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    // MARK: Superblocks

    static func superblock(
        _ volume: any BlockReader, at offset: UInt64
    ) throws(BlockIOError) -> BtrfsSuperblock? {
        guard volume.byteCount >= offset + UInt64(BtrfsSuperblock.byteCount) else { return nil }
        let bytes = try volume.readBytes(at: offset, count: BtrfsSuperblock.byteCount)
        return (try? BtrfsSuperblock(bytes)) ?? nil
    }

    /// The superblock to use: the primary, as in the kernel, or a mirror where the primary's checksum is wrong.
    /// Mirrors that contradict the primary are the `doubt`.
    private static func chosen(
        _ primary: BtrfsSuperblock, _ volume: any BlockReader
    ) throws(BlockIOError) -> (BtrfsSuperblock, remarks: [String], doubt: String?) {
        guard let primaryIsRight = primary.checksumIsRight else { return (primary, [], nil) }
        var mirrors: [BtrfsSuperblock] = []
        var remarks: [String] = []
        for offset in BtrfsSuperblock.offsets.dropFirst() where offset < volume.byteCount {
            // Data behind the filesystem's end are left over from an earlier one.
            let isInside = !primaryIsRight || offset < primary.device.byteCount
            guard isInside, let mirror = try superblock(volume, at: offset) else { continue }
            if mirror.checksumIsRight == true, mirror.byteNumber == offset {
                mirrors.append(mirror)
            } else {
                remarks.append("the copy of the superblock at \(ByteText.exact(offset)) is damaged")
            }
        }
        guard !primaryIsRight else {
            guard primary.byteNumber == BtrfsSuperblock.offsets[0] else {
                return (primary, remarks, "its superblock is not where it should be")
            }
            let isContradicted = mirrors.contains { $0.uuid != primary.uuid || $0.generation > primary.generation }
            return (primary, remarks, isContradicted ? "the copies of its superblock contradict" : nil)
        }
        // The mirror must be of the same commit, as far as the damaged primary shows it: later commits may have
        // allocated blocks that are unused in an old mirror.
        guard let newest = mirrors.max(by: { $0.generation < $1.generation }), newest.uuid == primary.uuid,
            newest.generation == primary.generation
        else { return (primary, remarks, nil) }
        remarks.append(
            "its superblock is damaged, and the copy at \(ByteText.exact(newest.byteNumber)) was used: it must be repaired "
                + "(btrfs rescue super-recover) before it can be mounted")
        return (newest, remarks, nil)
    }

    private static func describe(_ superblock: BtrfsSuperblock) -> FilesystemInfo {
        FilesystemInfo(
            kind: .btrfs, kindName: "btrfs", uuid: ExtFilesystem.uuidText(superblock.uuid),
            label: superblock.label.isEmpty ? nil : superblock.label, byteCount: superblock.device.byteCount,
            blockSize: Int(superblock.sectorSize), sectorSize: Int(superblock.sectorSize),
            isClean: superblock.logRoot == 0, features: BtrfsFeature.names(of: superblock), mapSource: .whole)
    }
}
