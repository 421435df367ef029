// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads the state and the allocation bitmap of an NTFS with a valid boot sector.
struct NTFSMapper {
    /// The bytes of $Bitmap in one read.
    private static let batchByteCount: UInt64 = 1 << 20
    /// VOLUME_MOUNTED_ON_NT4 and VOLUME_DELETE_USN_UNDERWAY: the only flags that do not indicate open changes.
    private static let harmlessFlags: UInt16 = 0x0018
    /// The relevant files of the root folder.
    private static let pageFiles: [String] = ["hiberfil.sys", "pagefile.sys", "swapfile.sys"]
    /// The length of the beginning of each that is kept.
    private static let keptByteCount: UInt64 = 64 << 10

    let table: NTFSMasterFileTable
    let label: String?
    /// "3.1".
    let version: String
    private let volume: any BlockReader
    let boot: NTFSBootSector
    private let flags: UInt16

    init(_ volume: any BlockReader, _ boot: NTFSBootSector) throws(FilesystemError) {
        self.volume = volume
        self.boot = boot
        table = try NTFSMasterFileTable(volume, boot)
        let record = try table.record(.volume)
        let name = try table.stream(of: record, .volumeName)?.resident ?? []
        guard let information = try table.stream(of: record, .volumeInformation)?.resident else {
            throw .damaged("it has no volume information")
        }
        // VOLUME_INFORMATION: major_ver, minor_ver, flags.
        let (major, minor, flags) = try FilesystemError.parsing { () throws(ParsingError) in
            (
                try information.littleEndian(UInt8.self, at: 8), try information.littleEndian(UInt8.self, at: 9),
                try information.littleEndian(UInt16.self, at: 10)
            )
        }
        let units = (0..<name.count / 2).map { UInt16(name[2 * $0]) | UInt16(name[2 * $0 + 1]) << 8 }
        label = units.isEmpty ? nil : String(decoding: units, as: UTF16.self)
        version = "\(major).\(minor)"
        self.flags = flags
    }

    // MARK: State

    /// Why the structures on the disk are incomplete, as a sentence part; `nil` if they are complete.
    /// - Parameter acceptsDirtyFlag: whether a check by Windows at its next start is no reason.
    func uncleanReason(acceptsDirtyFlag: Bool = false) throws(FilesystemError) -> String? {
        // Windows NT 4, Windows 2000, and all later ones.
        guard ["1.2", "3.0", "3.1"].contains(version) else { return "its version \(version) is not known" }
        if flags & 1 != 0, !acceptsDirtyFlag { return "it is marked dirty" }  // VOLUME_IS_DIRTY
        if flags & 0x4000 != 0 { return "a check of it was begun and not ended" }  // VOLUME_CHKDSK_UNDERWAY
        if flags & ~(Self.harmlessFlags | 1) != 0 {
            return "its flags 0x\(String(flags, radix: 16)) say that Windows has something to finish on it"
        }
        if let problem = try NTFSLogFile.problem(try contents(of: .logFile)) { return problem }
        return try hibernationReason()
    }

    /// Windows records in hiberfil.sys (PO_MEMORY_IMAGE.Signature) that it will resume with
    /// its old state of the volume.
    private func hibernationReason() throws(FilesystemError) -> String? {
        let folder = try NTFSFolder(table, lookingFor: ["hiberfil.sys"])
        guard let record = try folder.record("hiberfil.sys") else { return nil }
        guard let data = try table.stream(of: record, .data) else { throw .damaged("hiberfil.sys has no contents") }
        // ntfs-3g's rule: a file this short belongs to a system on another volume.
        if data.byteCount < 4096 { return "it belongs to a Windows that is hibernated" }
        let signature = try data.read(at: 0, count: 4)
        switch String(decoding: signature, as: UTF8.self) {
        case "hibr", "HIBR": return "Windows is hibernated, or was shut down with fast startup"
        // Resumed; zeroed since Windows 8. Or never used.
        case "wake", "WAKE", "\0\0\0\0": return nil
        default: return "its hiberfil.sys has an unknown signature"
        }
    }

    // MARK: Allocation

    /// The clusters whose bit is set, and everything behind the last cluster, including the copy of the boot sector.
    func map() throws(FilesystemError) -> AllocationMap {
        let bitmap = try contents(of: .bitmap)
        guard bitmap.initializedByteCount >= (boot.clusterCount + 7) / 8 else {
            throw .damaged("its allocation bitmap is too short")
        }
        var used = RangeAccumulator()
        var done: UInt64 = 0
        while done < boot.clusterCount {
            let count = min(Self.batchByteCount * 8, boot.clusterCount - done)
            let bytes = try bitmap.read(at: done / 8, count: Int((count + 7) / 8))
            _ = Bitmap.forEachRun(in: bytes, at: 0, bitCount: Int(count)) { run in
                let start = (done + UInt64(run.lowerBound)) * boot.clusterSize
                used.append(start..<(done + UInt64(run.upperBound)) * boot.clusterSize)
            }
            done += count
        }
        used.append(boot.clusterEnd..<volume.byteCount)
        let map = used.map(byteCount: volume.byteCount)
        // A bitmap that marks the filesystem's own clusters as free belongs to another volume, or is damaged.
        guard try systemRanges().allSatisfy({ map.covers($0) }) else {
            throw .damaged("its allocation bitmap calls free what it uses itself")
        }
        return map
    }

    /// The places of the files without which the volume is unusable.
    private func systemRanges() throws(FilesystemError) -> [ByteRange] {
        let mirror = boot.mirrorCluster * boot.clusterSize
        var ranges = table.contents.ranges + [0..<boot.clusterSize, mirror..<mirror + 4 * boot.recordSize]
        for file in [NTFSMasterFileTable.SystemFile.mirror, .logFile, .bitmap, .boot] {
            ranges += try contents(of: file).ranges
        }
        return ranges
    }

    /// The contents of a system file, in clusters without holes.
    private func contents(of file: NTFSMasterFileTable.SystemFile) throws(FilesystemError) -> NTFSStream {
        guard let data = try table.stream(of: try table.record(file), .data), data.resident == nil, !data.hasHoles,
            data.flags == 0
        else { throw .damaged("the system file \(file) has no usual contents") }
        return data
    }

    // MARK: What can be done without

    /// See `NTFSFilesystem.pageFileRanges`.
    func pageFileRanges(in map: AllocationMap) throws(FilesystemError) -> [ByteRange] {
        let folder = try NTFSFolder(table, lookingFor: Set(Self.pageFiles))
        let others = AllocationMap(byteCount: volume.byteCount, unsorted: try systemRanges())
        var result: [ByteRange] = []
        for name in Self.pageFiles {
            // A file with another name elsewhere is no page file; one with streams or holes was not made by Windows.
            guard let record = try folder.record(name), !record.isFolder, record.linkCount == 1,
                let data = try table.stream(of: record, .data), data.flags == 0, !data.hasHoles
            else { continue }
            var kept = Self.keptByteCount
            for range in data.ranges {
                let rest = range.lowerBound + min(kept, range.byteCount)..<range.upperBound
                kept -= min(kept, range.byteCount)
                guard !rest.isEmpty else { continue }
                guard map.covers(rest), others.ranges(in: rest).isEmpty else {
                    throw .damaged("\(name) and another file share clusters")
                }
                result.append(rest)
            }
        }
        result.sort { $0.lowerBound < $1.lowerBound }
        guard zip(result, result.dropFirst()).allSatisfy({ $0.upperBound <= $1.lowerBound }) else {
            throw .damaged("two page files share clusters")
        }
        return result
    }

    /// A length to which ntfsresize certainly shrinks it, in bytes, with the copy of the boot sector;
    /// `nil` if it may refuse.
    func leastByteCount(_ map: AllocationMap) -> UInt64? {
        // "Highly fragmented $Bitmap isn't supported yet", nor a $MFTMirr in two parts, nor bad sectors.
        guard table.mirroredRecords.isEmpty, let bitmap = try? table.record(.bitmap),
            bitmap.attributes.allSatisfy({ $0.type != 0x20 }),
            let mirror = try? contents(of: .mirror), mirror.ranges.count == 1,
            let badRecord = try? table.record(.badClusters),
            case .clusters(let part)? = try? badRecord.attribute(.data, name: "$Bad")?.content,
            let bad = try? NTFSRunList(only: part, clusterCount: boot.clusterCount),
            bad.runs.allSatisfy({ $0.place == nil })
        else { return nil }
        let used = map.ranges(in: 0..<boot.clusterEnd).reduce(0) { $0 + $1.byteCount }
        let least = LeastSize.ntfs(usedByteCount: used, clusterSize: Int(boot.clusterSize))
        return least < boot.byteCount ? least : nil
    }
}
