// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageModel

/// The plan of a capture: the data to read and store.
package struct CapturePlan: Sendable {
    /// The header of the image.
    package var header: ImageHeader
    /// Bytes that are stored in place of the disk's, by their offset on the disk: a swap header without the mark of a
    /// hibernation image.
    package var patches: [UInt64: [UInt8]]

    /// Creates a plan. A copy of a capture has no patches.
    package init(header: ImageHeader, patches: [UInt64: [UInt8]] = [:]) {
        self.header = header
        self.patches = patches
    }

    /// The bytes that will be read.
    package var usedByteCount: UInt64 { header.maps.reduce(0) { $0 + $1.usedByteCount } }
}

/// The options of a capture.
package struct CaptureOptions: Sendable {
    /// The compression level.
    package var level: Int
    /// Whether every sector is captured.
    package var allSectors: Bool
    /// The length of a chunk in bytes.
    package var chunkByteCount: Int
    /// A remark for the manifest.
    package var note: String
    /// The gaps that are left out.
    package var leftOut: LeftOut = .longGaps

    /// The choices for gaps behind the first one that are longer than `CapturePlanner.longestKeptGap`.
    package enum LeftOut: Equatable, Sendable {
        /// All of them, and the manifest lists them.
        case longGaps
        /// These, which are known to contain only zeros.
        case zeros([ByteRange])
    }

    /// By default level 3, used sectors only, chunks of 4 MiB.
    package init(level: Int = 3, allSectors: Bool = false, chunkByteCount: Int = 4 << 20, note: String = "") {
        self.level = level
        self.allSectors = allSectors
        self.chunkByteCount = chunkByteCount
        self.note = note
    }
}

/// Plans a capture. Pure: it works on the survey alone.
package enum CapturePlanner {
    /// Gaps up to this length in bytes are always kept.
    package static let longestKeptGap: UInt64 = 16 << 20

    /// The gaps of a disk behind the first one that are longer than that, without the backup table.
    package static func longGaps(_ survey: DiskSurvey) -> [ByteRange] {
        let end = survey.geometry.byteCount
        let backup = survey.table.backupByteCount(on: survey.geometry)
        let starts = survey.volumes.map(\.range.upperBound)
        let ends = survey.volumes.dropFirst().map(\.range.lowerBound) + [end - min(end, backup)]
        return zip(starts, ends).compactMap { start, end in
            end > start && end - start > longestKeptGap ? start..<end : nil
        }
    }

    /// The map of a gap that is left out: what in it belongs to the partition table.
    private static func leftOutMap(of range: ByteRange, _ survey: DiskSurvey) -> AllocationMap {
        var map = AllocationMap(byteCount: range.byteCount)
        // The backup table lies after the space for partitions: it always belongs to the disk.
        if range.upperBound == survey.geometry.byteCount {
            let backup = min(survey.table.backupByteCount(on: survey.geometry), range.byteCount)
            map.insert(range.byteCount - backup..<range.byteCount)
        }
        for record in survey.table.bootRecords ?? [] where range.contains(record) {
            let start = record - range.lowerBound
            map.insert(start..<start + UInt64(survey.geometry.logicalSectorSize))
        }
        return map
    }

    /// A plan for a surveyed disk.
    /// - Parameters:
    ///   - tableBytes: the raw bytes of its table.
    ///   - mounted: the mount points of its filesystems that are mounted read-write.
    package static func plan(
        _ survey: DiskSurvey, tableBytes: CapturedTable, options: CaptureOptions, machine: MachineFacts,
        mounted: [String], toolVersion: String, started: String, localOffsetSeconds: Int,
        swapHeaders: [UInt64: [UInt8]] = [:]
    ) -> CapturePlan {
        var regions: [Manifest.Region] = []
        var maps: [AllocationMap] = []
        var warnings = survey.warnings
        let diskEnd = survey.geometry.byteCount

        func add(_ region: Manifest.Region, _ map: AllocationMap) {
            var region = region
            region.usedByteCount = map.usedByteCount
            regions.append(region)
            maps.append(map)
        }
        func addGap(_ range: ByteRange) {
            guard !range.isEmpty else { return }
            let isFirst = range.lowerBound == 0
            var map = AllocationMap.whole(byteCount: range.byteCount)
            let isLong = !isFirst && range.byteCount > longestKeptGap && !options.allSectors
            let isSkipped =
                switch options.leftOut {
                case .longGaps: isLong
                case .zeros(let empty): isLong && empty.contains { $0.lowerBound == range.lowerBound }
                }
            if isSkipped {
                map = leftOutMap(of: range, survey)
                guard options.leftOut == .longGaps else {
                    return add(.init(kind: .gap, range: range, isSkipped: true, usedByteCount: 0), map)
                }
                warnings.append(
                    "\(ByteText.rounded(range.byteCount)) between partitions, from byte \(range.lowerBound) on, were left out "
                        + "(capture --all-sectors keeps them)")
            }
            add(.init(kind: .gap, range: range, isSkipped: isSkipped, usedByteCount: 0), map)
        }

        var position: UInt64 = 0
        for volume in survey.volumes {
            addGap(position..<volume.range.lowerBound)
            let map =
                options.allSectors
                ? .whole(byteCount: volume.range.byteCount) : volume.allocation.coalesced(toAtMost: 1 << 20)
            add(
                .init(
                    kind: volume.partition == nil ? .disk : .partition, range: volume.range,
                    partition: volume.partition?.number, filesystem: volume.filesystem, usedByteCount: 0), map)
            position = volume.range.upperBound
        }
        addGap(position..<diskEnd)

        let manifest = Manifest(
            imageUUID: .random(), captureSet: .init(uuid: .random()), toolVersion: toolVersion, machine: machine,
            disk: survey.identity, geometry: survey.geometry, table: survey.table, tableHead: tableBytes.head,
            tableTail: tableBytes.tail,
            tableRecords: tableBytes.records.isEmpty
                ? nil : tableBytes.records.map { .init(offset: $0.offset, bytes: $0.bytes) }, boot: survey.boot,
            regions: regions, chunkByteCount: options.chunkByteCount,
            level: options.level, allSectors: options.allSectors, mountedReadWrite: mounted,
            usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount }, started: started,
            localOffsetSeconds: localOffsetSeconds, note: options.note, warnings: warnings)
        return CapturePlan(
            header: ImageHeader(manifest: manifest, maps: maps), patches: options.allSectors ? [:] : swapHeaders)
    }
}
