// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// ext2, ext3 and ext4.
enum ExtFilesystem {
    static let format = FilesystemFormat(
        kindNames: ["ext2", "ext3", "ext4", "ext4dev", "jbd"], survey: survey, prove: prove)

    /// The ext filesystem on `volume` and its used ranges; `nil` if there is none.
    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard volume.byteCount >= ExtSuperblock.offset + UInt64(ExtSuperblock.byteCount) else { return nil }
        let bytes = try volume.readBytes(at: ExtSuperblock.offset, count: ExtSuperblock.byteCount)
        guard let superblock = (try? ExtSuperblock(bytes)) ?? nil else { return nil }
        var info = describe(superblock)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        if let problem = superblock.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        var mapper = ExtMapper(volume, superblock)
        do throws(FilesystemError) {
            let map = try mapper.map()
            info.mapSource = .allocationStructures
            info.leastByteCount = mapper.leastSize.byteCount
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    /// The first inode with a block that is not in the map.
    private static func prove(_ volume: any BlockReader, _ contents: VolumeContents) throws(BlockIOError) -> String? {
        let bytes = try volume.readBytes(at: ExtSuperblock.offset, count: ExtSuperblock.byteCount)
        guard let superblock = (try? ExtSuperblock(bytes)) ?? nil else { return nil }
        var proof = ExtOwnerProof(volume, superblock, contents.allocation)
        do throws(FilesystemError) {
            try proof.run()
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    private static func describe(_ superblock: ExtSuperblock) -> FilesystemInfo {
        let kind = superblock.kind
        return FilesystemInfo(
            kind: kind ?? .other, kindName: kind?.rawValue ?? "jbd", uuid: uuidText(superblock.uuid),
            label: superblock.label.isEmpty ? nil : superblock.label, byteCount: superblock.filesystemByteCount,
            blockSize: superblock.logBlockSize <= 6 ? superblock.blockSize : nil,
            isClean: superblock.isClean, features: ExtFeature.names(of: superblock), mapSource: .whole,
            lastMountPoint: superblock.lastMountPoint.isEmpty ? nil : superblock.lastMountPoint)
    }

    /// The text form; `nil` for all zeros, as in blkid.
    static func uuidText(_ bytes: [UInt8]) -> String? {
        bytes.allSatisfy { $0 == 0 } ? nil : (try? GUID(bigEndianBytes: bytes))?.description
    }
}
