// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskEditing
import DiskImages
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import Imaging
import SystemPackage

/// The survey of a disk whose parts are streams: the table and the kinds of the filesystems from the first bytes, the
/// used bytes from the images' own maps. Least sizes need more, so that nothing of it can be made smaller.
struct ForeignSurvey {
    private let contents: ForeignContents
    private let table: PartitionTable
    private let places: [(range: ByteRange, partition: Partition?)]
    /// Parts without an image, and volumes of the table that are no part.
    let missing: [ForeignContents.Missing]
    private let sources: [(name: String, byteCount: UInt64, changed: (seconds: Int64, nanoseconds: Int64))]

    private var head: ForeignHead { contents.head }

    init(_ contents: ForeignContents) throws {
        self.contents = contents
        table = try PartitionTableReader.read(
            contents.head, secondOpinion: SecondOpinion(descriptor: contents.head.descriptor))
        places = DiskSurveyor.volumePlaces(table, diskByteCount: contents.byteCount)
        let known = contents.partPlaces + contents.disk.fixed.map { $0.offset..<$0.offset + UInt64($0.bytes.count) }
        let forgotten = places.filter { place in !known.contains { $0.overlaps(place.range) } }
        missing =
            contents.missing
            + forgotten.map {
                .init(
                    label: $0.partition.map { "partition \($0.number)" } ?? "the disk",
                    reason: "the table has it, and no file belongs to it", ranges: [$0.range])
            }
        var sources: [(name: String, byteCount: UInt64, changed: (seconds: Int64, nanoseconds: Int64))] = []
        for path in contents.disk.files {
            let file = try FileBytes(path)
            sources.append((path.lastComponent?.string ?? "", file.byteCount, file.changed))
        }
        self.sources = sources
    }

    /// The warnings of the format, and what nothing could prove.
    var warnings: [String] {
        let unchecked = contents.unchecked
        guard !unchecked.isEmpty else { return contents.disk.warnings }
        return contents.disk.warnings + [
            "nothing shows damage in \(unchecked.map { String($0.prefix(64)) }.joined(separator: ", ")): neither the image nor its "
                + "compression has checksums"
        ]
    }

    /// The identity, equal for unchanged files, so that an interrupted restore continues.
    func uuid(isStreamed: Bool) throws -> GUID {
        var facts = Array("reforge foreign disk \(contents.disk.format) \(isStreamed)".utf8)
        facts.appendLittleEndian(contents.byteCount)
        for source in sources {
            facts += Array(source.name.utf8) + [0]
            for number in [
                source.byteCount, UInt64(bitPattern: source.changed.seconds),
                UInt64(bitPattern: source.changed.nanoseconds),
            ] { facts.appendLittleEndian(number) }
        }
        let start = try head.readBytes(at: 0, count: Int(min(head.byteCount, 1 << 20)))
        return try GUID(bigEndianBytes: Array(ContentHash(of: facts + start).bytes.prefix(16)))
    }

    func plan() throws -> CapturePlan {
        let opinion = SecondOpinion(descriptor: head.descriptor)
        let volumes = places.map { place in
            VolumeSurvey(
                range: place.range, partition: place.partition, filesystem: filesystem(in: place.range, opinion),
                allocation: .whole(byteCount: place.range.byteCount))
        }
        var survey = DiskSurvey(
            identity: contents.disk.identity, geometry: contents.disk.geometry, table: table, volumes: volumes,
            warnings: warnings)
        survey.boot = try DiskSurveyor.boot(head, volumes)
        var plan = CapturePlanner.recording(
            of: survey, tableBytes: try CapturedTable(reading: head, table: table),
            .init(
                uuid: try uuid(isStreamed: true), changed: sources.map(\.changed.seconds).max() ?? 0))
        cut(&plan)
        return plan
    }

    /// Limits the maps of a plan to the bytes that the images hold, and the parts that are missing: everything else was
    /// not in use, also between the partitions and behind a filesystem that FOG made smaller.
    func cut(_ plan: inout CapturePlan) {
        var used = contents.used
        for range in missing.flatMap(\.ranges) { used.insert(range) }
        for (index, region) in plan.header.manifest.regions.enumerated() {
            let old = plan.header.maps[index]
            var map = AllocationMap(byteCount: region.range.byteCount)
            for range in used.ranges(in: region.range) {
                let place = range.lowerBound - region.range.lowerBound..<range.upperBound - region.range.lowerBound
                for part in old.ranges(in: place) { map.insert(part) }
            }
            plan.header.maps[index] = map.coalesced(toAtMost: 1 << 20)
            plan.header.manifest.regions[index].usedByteCount = plan.header.maps[index].usedByteCount
        }
        plan.header.manifest.usedByteCount = plan.usedByteCount
    }

    private func filesystem(in range: ByteRange, _ opinion: SecondOpinion) -> FilesystemInfo {
        func unknown(_ reason: String) -> FilesystemInfo {
            FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason)
        }
        if table.kind == .unknown {
            return unknown("its partition table is not understood (\(table.unknownKindName ?? "nothing known"))")
        }
        if missing.contains(where: { $0.ranges.contains { $0.covers(range) } }) { return unknown("it has no image") }
        guard let volume = BlockSlice(head, range: range),
            var info = try? VolumeIdentifier.survey(
                volume, secondOpinion: opinion.shifted(up: range.lowerBound), trustMaps: true
            ).0
        else { return unknown("its first bytes could not be understood") }
        // Its state is in files anywhere on the volume, and zeros in place of its log look like changes to replay: what
        // bytes say that were not read does not count. Its tool checks it before any change.
        if info.kind == .ntfs, head.meetsUnread({ _ = try? VolumeIdentifier.survey(volume, as: info.kindName) }) {
            info.isClean = nil
        }
        let isRaw = contents.rawPlaces.contains { $0.covers(range) }
        return Self.mapped(info, isRaw: isRaw)
    }

    /// The survey saw only the first bytes: what it says about used and least bytes does not count.
    private static func mapped(_ info: FilesystemInfo, isRaw: Bool) -> FilesystemInfo {
        var info = info
        info.leastByteCount = nil
        info.inner = info.inner?.map { volume in
            var volume = volume
            volume.usedByteCount = nil
            volume.filesystem = mapped(volume.filesystem, isRaw: isRaw)
            return volume
        }
        guard info.kind != .unknown, info.kind != .other, info.mapSource != .headerOnly else { return info }
        if info.isClean == false {
            (info.mapSource, info.wholeReason) = (.whole, "it was not cleanly unmounted")
        } else if isRaw {
            (info.mapSource, info.wholeReason) = (.whole, FilesystemInfo.allSectorsReason)
        } else {
            (info.mapSource, info.wholeReason) = (.allocationStructures, nil)
        }
        return info
    }
}
