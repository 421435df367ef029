// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// NTFS: its used ranges according to its $Bitmap.
enum NTFSFilesystem {
    static let format = FilesystemFormat(kindNames: ["ntfs"], survey: survey, prove: contradiction)

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard let boot = try bootSector(volume) else { return nil }
        var info = describe(boot)
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        if let problem = boot.problem(volumeByteCount: volume.byteCount) {
            return (info.takenWhole(because: problem), whole)
        }
        do throws(FilesystemError) {
            let mapper = try NTFSMapper(volume, boot)
            info.label = mapper.label
            info.features = ["version \(mapper.version)"]
            if !mapper.table.mirroredRecords.isEmpty {
                info.remarks.append("has damaged file records; their copy in $MFTMirr was used")
            }
            // It contains the dirty flag, and its copy may be older.
            if mapper.table.mirroredRecords.contains(NTFSMasterFileTable.SystemFile.volume.rawValue) {
                return (info.takenWhole(because: "the file record that says whether it is dirty is damaged"), whole)
            }
            if let reason = try mapper.uncleanReason() {
                info.isClean = false
                return (info.takenWhole(because: reason), whole)
            }
            info.isClean = true
            let map = try mapper.map()
            info.mapSource = .allocationStructures
            info.leastByteCount = mapper.leastByteCount(map)
            if try hasShadowCopies(volume) {
                info.remarks.append(
                    "has shadow copies (restore points, previous versions): files in them that were deleted since are "
                        + "kept only with --all-sectors")
            }
            return (info, map)
        } catch {
            return (info.takenWhole(because: try error.reasonForWhole()), whole)
        }
    }

    /// The first file record whose clusters are free in the map, as a sentence part; `nil` without one.
    static func contradiction(
        _ volume: any BlockReader, _ contents: VolumeContents
    ) throws(BlockIOError) -> String? {
        guard let boot = try bootSector(volume) else { return "its boot sector has changed since" }
        if let problem = boot.problem(volumeByteCount: volume.byteCount) { return problem }
        do throws(FilesystemError) {
            try NTFSMapper(volume, boot).checkFiles(contents.allocation)
            return nil
        } catch {
            return try error.reasonForWhole()
        }
    }

    /// The contents of `pagefile.sys`, `swapfile.sys` and `hiberfil.sys` in the root folder (bytes of the volume,
    /// ascending). Windows recreates them at its start. The beginning of each is not included, because Windows checks
    /// it for a hibernation image or a crash dump, and must not find old data of the target disk there.
    ///
    /// Empty if the volume is not clean, or in case of any doubt about it or a file.
    /// - Parameter map: the volume's map, if known.
    static func pageFileRanges(
        _ volume: any BlockReader, in map: AllocationMap? = nil
    ) throws(BlockIOError) -> [ByteRange] {
        guard let boot = try bootSector(volume), boot.problem(volumeByteCount: volume.byteCount) == nil else {
            return []
        }
        do throws(FilesystemError) {
            let mapper = try NTFSMapper(volume, boot)
            guard try mapper.uncleanReason() == nil else { return [] }
            let used = if let map { map } else { try mapper.map() }
            return try mapper.pageFileRanges(in: used)
        } catch {
            _ = try error.reasonForWhole()
            return []
        }
    }

    /// The volume's contents without those of the page files, and a remark about it.
    static func withoutPageFiles(
        _ volume: any BlockReader, _ contents: VolumeContents
    ) throws(BlockIOError) -> VolumeContents {
        let skipped = try pageFileRanges(volume, in: contents.allocation)
        guard !skipped.isEmpty else { return contents }
        let unused = contents.allocation.complement.ranges
        var result = contents
        result.allocation = AllocationMap(byteCount: volume.byteCount, unsorted: unused + skipped).complement
        let byteCount = skipped.reduce(0) { $0 + $1.byteCount }
        result.filesystem.remarks.append(
            "has page files whose contents (\(ByteText.rounded(byteCount))) are left out, as requested")
        return result
    }

    /// Whether a shadow copy is active. It keeps a block in place until the block is overwritten, and so relies on
    /// clusters that the filesystem has long freed (libvshadow's "Volume Shadow Snapshot (VSS) format", volume header:
    /// VSS identifier, catalog offset).
    private static func hasShadowCopies(_ volume: any BlockReader) throws(FilesystemError) -> Bool {
        let offset: UInt64 = 0x1E00
        guard volume.byteCount >= offset + 512 else { return false }
        let header = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: offset, count: 512)
        }
        let identifier = try? GUID(mixedEndianBytes: Array(header[..<16]))
        let catalogOffset = try? header.littleEndian(UInt64.self, at: 48)
        return identifier?.description == "3808876b-c176-4e48-b7ae-04046e6cc752" && catalogOffset != 0
    }

    private static func bootSector(_ volume: any BlockReader) throws(BlockIOError) -> NTFSBootSector? {
        guard volume.byteCount >= 512 else { return nil }
        let sector = try volume.readBytes(at: 0, count: 512)
        return (try? NTFSBootSector(sector)) ?? nil
    }

    private static func describe(_ boot: NTFSBootSector) -> FilesystemInfo {
        let digits = String(boot.serialNumber, radix: 16, uppercase: true)
        return FilesystemInfo(
            kind: .ntfs, kindName: "ntfs", uuid: String(repeating: "0", count: 16 - digits.count) + digits,
            byteCount: boot.sectorCount.multipliedReportingOverflow(by: boot.sectorSize).overflow
                ? nil : boot.byteCount,
            blockSize: Int(boot.clusterSize), sectorSize: Int(boot.sectorSize), mapSource: .whole)
    }
}
