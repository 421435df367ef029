// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// F2FS: its used ranges according to the segment information table of a clean checkpoint.
enum F2FSFilesystem {
    static let format = FilesystemFormat(
        kindNames: ["f2fs"], survey: survey, prove: F2FSProof.contradiction)

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        let end = F2FSSuperblock.offset + UInt64(F2FSSuperblock.byteCount)
        guard volume.byteCount >= 2 * end else { return nil }
        let bytes = try volume.readBytes(at: F2FSSuperblock.offset, count: F2FSSuperblock.byteCount)
        guard let superblock = (try? F2FSSuperblock(bytes)) ?? nil else { return nil }
        var info = FilesystemInfo(
            kind: .f2fs, kindName: "f2fs", uuid: ExtFilesystem.uuidText(superblock.uuid),
            label: superblock.label.isEmpty ? nil : superblock.label, byteCount: superblock.filesystemByteCount,
            blockSize: superblock.logBlockSize == 12 ? Int(F2FSSuperblock.blockSize) : nil,
            sectorSize: (9...12).contains(superblock.logSectorSize) ? 1 << Int(superblock.logSectorSize) : nil,
            features: superblock.featureNames, mapSource: .whole)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        if let problem = superblock.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        let copy = try volume.readBytes(
            at: F2FSSuperblock.offset + F2FSSuperblock.blockSize, count: F2FSSuperblock.byteCount)
        guard ((try? F2FSSuperblock(copy)) ?? nil)?.layout == superblock.layout else {
            return (info.takenWhole(because: "its two superblocks differ"), whole)
        }
        do throws(FilesystemError) {
            let checkpoint = try F2FSCheckpoint.live(volume, superblock)
            info.isClean = checkpoint.flags & F2FSCheckpoint.Flag.unmounted != 0
            if let problem = checkpoint.problem { return (info.takenWhole(because: problem), whole) }
            let mapper = F2FSMapper(volume, superblock, checkpoint)
            if try mapper.hasFilesToRecover() {
                info.isClean = false
                return (info.takenWhole(because: "files were written to it after its last checkpoint"), whole)
            }
            let map = try mapper.map()
            info.mapSource = .allocationStructures
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }
}
