// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// XFS, versions 4 and 5.
enum XFSFilesystem {
    static let format = FilesystemFormat(
        kindNames: ["xfs"], survey: survey, prove: XFSProof.contradiction)

    /// The XFS on `volume` and its used ranges; `nil` if there is none.
    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard volume.byteCount >= UInt64(XFSSuperblock.maximumSectorSize) else { return nil }
        let bytes = try volume.readBytes(at: 0, count: XFSSuperblock.byteCount)
        guard let superblock = (try? XFSSuperblock(bytes)) ?? nil else { return nil }
        var info = describe(superblock)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        let sector = superblock.hasValidSectorSize ? try volume.readBytes(at: 0, count: Int(superblock.sectorSize)) : []
        if let problem = superblock.problem(sector: sector, volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        do throws(FilesystemError) {
            switch try XFSLog(volume, superblock).state() {
            case .dirty(let reason):
                info.isClean = false
                return (info.takenWhole(because: reason), whole)
            case .clean(let head):
                info.isClean = true
                var mapper = XFSMapper(volume, superblock, head: head)
                let map = try mapper.map()
                info.mapSource = .allocationStructures
                return (info, map)
            }
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    private static func describe(_ superblock: XFSSuperblock) -> FilesystemInfo {
        FilesystemInfo(
            kind: .xfs, kindName: "xfs", uuid: ExtFilesystem.uuidText(superblock.uuid),
            label: superblock.label.isEmpty ? nil : superblock.label, byteCount: superblock.filesystemByteCount,
            blockSize: Int(superblock.blockSize), sectorSize: Int(superblock.sectorSize),
            isClean: superblock.has(incompatible: XFSFeature.needsRepair) ? false : nil,
            features: XFSFeature.names(of: superblock), mapSource: .whole,
            // It cannot shrink.
            leastByteCount: superblock.filesystemByteCount)
    }
}
