// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import TestSupport

@testable import ImageModel

/// A small made-up disk: a gap, a partition with a map, a gap.
struct MadeUpDiskCapture {
    var header: ImageHeader
    var bytes: [UInt8]

    static let chunkByteCount = 64 << 10

    /// A disk with random content, map and size.
    init(_ random: inout SeededGenerator, partitionByteCount: Int = 5_000_192) throws {
        let uuid = try GUID(bigEndianBytes: Array(0..<16))
        let gap = 1 << 20
        let tail = 100 << 10
        let end = gap + partitionByteCount
        let byteCount = UInt64(end + tail)
        let range = UInt64(gap)..<UInt64(end)
        let table = PartitionTable(
            kind: .gpt, diskGUID: uuid, usable: 17_408..<byteCount - 17_408, entryCount: 128,
            partitions: [
                Partition(number: 1, range: range, typeGUID: uuid, guid: uuid, name: "one", attributes: 0)
            ])
        var map = AllocationMap(byteCount: range.byteCount)
        var bytes = [UInt8](repeating: 0, count: Int(byteCount))
        var position: UInt64 = 0
        while position < range.byteCount {
            // Every disk has data at the start of its partition: one in a thousand had none at all.
            let least: UInt64 = position == 0 ? 131_072 : 1
            let length = min(UInt64.random(in: least...400_000, using: &random), range.byteCount - position)
            switch position == 0 ? 3 : Int.random(in: 0..<4, using: &random) {
            case 0: break
            case 1: map.insert(position..<position + length)
            default:
                map.insert(position..<position + length)
                let value = UInt8.random(in: 1...255, using: &random)
                for index in 0..<Int(length) {
                    bytes[gap + Int(position) + index] =
                        index % 97 == 0 ? UInt8(truncatingIfNeeded: random.next()) : value
                }
            }
            position += length
        }
        for index in 0..<1000 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        for index in end..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        let maps = [
            AllocationMap.whole(byteCount: UInt64(gap)), map, AllocationMap.whole(byteCount: UInt64(tail)),
        ]
        let manifest = Manifest(
            imageUUID: .random(), captureSet: .init(uuid: uuid), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), disk: DiskIdentity(path: "/dev/made-up"),
            geometry: DiskGeometry(byteCount: byteCount), table: table, tableHead: [1, 2, 3], tableTail: [4, 5],
            boot: BootSurvey(),
            regions: [
                .init(kind: .gap, range: 0..<UInt64(gap), usedByteCount: UInt64(gap)),
                .init(
                    kind: .partition, range: range, partition: 1,
                    filesystem: FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures),
                    usedByteCount: map.usedByteCount),
                .init(kind: .gap, range: UInt64(end)..<byteCount, usedByteCount: UInt64(tail)),
            ], chunkByteCount: Self.chunkByteCount, level: 3, allSectors: false, mountedReadWrite: [],
            usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount }, started: "2026-01-02T03:04:05Z",
            localOffsetSeconds: 3600, note: "", tags: [])
        header = ImageHeader(manifest: manifest, maps: maps)
        self.bytes = bytes
    }

    /// One chunk of the grid, as a capture cuts it.
    struct Chunk {
        var kind: RangeKind
        var region: Int
        var range: ByteRange
    }

    /// The chunks of all regions in order.
    var chunks: [Chunk] {
        var result: [Chunk] = []
        for (index, region) in header.manifest.regions.enumerated() {
            var position = region.range.lowerBound
            while position < region.range.upperBound {
                let range = position..<min(position + UInt64(Self.chunkByteCount), region.range.upperBound)
                position = range.upperBound
                let relative = range.lowerBound - region.range.lowerBound..<range.upperBound - region.range.lowerBound
                let isUnused = header.maps[index].ranges(in: relative).isEmpty
                let isZero = bytes[Int(range.lowerBound)..<Int(range.upperBound)].allSatisfy { $0 == 0 }
                result.append(Chunk(kind: isUnused ? .unused : isZero ? .zero : .data, region: index, range: range))
            }
        }
        return result
    }

    /// Captures it like the executor, but on one thread.
    /// - Parameters:
    ///   - stoppingAfter: stops after this many chunks, without finishing.
    ///   - unreadable: ranges of the disk that could not be read.
    @discardableResult
    func capture(
        into sink: some ImageWriter, stoppingAfter limit: Int = .max, unreadable: [ByteRange] = []
    ) throws -> ImageSummary? {
        let encoder = try ChunkEncoder(sink.coding)
        for (number, chunk) in chunks.enumerated() {
            if number == limit { return nil }
            guard chunk.kind == .data else {
                try sink.appendRun(chunk.kind, region: chunk.region, range: chunk.range)
                continue
            }
            let content = Array(bytes[Int(chunk.range.lowerBound)..<Int(chunk.range.upperBound)])
            let id = sink.coding.identity.id(of: content)
            var record = ChunkRecord(
                kind: .data, region: chunk.region, range: chunk.range, storedByteCount: 0, hash: id)
            if try sink.holds(id) {
                try sink.append(record, stored: nil)
                continue
            }
            var stored = [UInt8](repeating: 0, count: ChunkCoding.bound(content.count))
            record.storedByteCount = try stored.withUnsafeMutableBytes { stored in
                try content.withUnsafeBytes { try encoder.encode($0, id: id, into: stored) }
            }
            try stored.withUnsafeBytes {
                try sink.append(record, stored: UnsafeRawBufferPointer(rebasing: $0[..<record.storedByteCount]))
            }
        }
        return try sink.finish(LateFacts(ended: "2026-01-02T03:05:05Z", unreadable: unreadable))
    }
}
