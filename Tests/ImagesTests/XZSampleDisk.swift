// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel

/// A synthetic disk, written to sinks without the capture pipeline.
struct SampleDisk {
    let header: ImageHeader
    /// The expected result of a restore: the disk with its unused bytes zeroed.
    let content: [UInt8]

    /// A gap, a partition that is used in places, and a gap.
    /// - Parameter partitionByteCount: at least 2 MiB; its last half is not in use.
    init(seed: UInt64 = 7, chunkByteCount: Int = 64 << 10, partitionByteCount: Int = 2 << 20) throws {
        var random = SeededGenerator(seed: seed)
        let partition: ByteRange = 1 << 20..<(1 << 20) + UInt64(partitionByteCount)
        let total = partition.upperBound + (1 << 20) - 512
        let uuid = try GUID(bigEndianBytes: Array(0..<16))
        var map = AllocationMap(byteCount: partition.byteCount)
        map.insert(0..<4096)
        map.insert(70_000..<300_000)
        map.insert(400_000..<900_000)
        let maps = [
            AllocationMap.whole(byteCount: 1 << 20), map, AllocationMap.whole(byteCount: (1 << 20) - 512),
        ]
        let manifest = Manifest(
            imageUUID: uuid, captureSet: .init(uuid: uuid), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), disk: DiskIdentity(path: "/dev/made-up"),
            geometry: DiskGeometry(byteCount: total),
            table: PartitionTable(
                kind: .gpt, diskGUID: uuid, usable: 17_408..<total - 17_408, entryCount: 128,
                partitions: [Partition(number: 1, range: partition, typeGUID: uuid, guid: uuid)]),
            tableHead: [1], tableTail: [2], boot: BootSurvey(),
            regions: [
                .init(kind: .gap, range: 0..<1 << 20, usedByteCount: 1 << 20),
                .init(kind: .partition, range: partition, partition: 1, usedByteCount: map.usedByteCount),
                .init(kind: .gap, range: partition.upperBound..<total, usedByteCount: (1 << 20) - 512),
            ], chunkByteCount: chunkByteCount, level: 1, allSectors: false, mountedReadWrite: [],
            usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount }, started: "2026-01-02T03:04:05Z",
            localOffsetSeconds: 0)
        header = ImageHeader(manifest: manifest, maps: maps)
        var content = [UInt8](repeating: 0, count: Int(total))
        for (region, map) in zip(manifest.regions, maps) {
            for range in map.ranges {
                let start = Int(region.range.lowerBound + range.lowerBound)
                // Some chunks stay zero.
                for index in stride(from: start, to: start + Int(range.byteCount), by: 3)
                where index / 150_000 % 3 != 1 {
                    content[index] = UInt8(truncatingIfNeeded: random.next()) & 0x1F
                }
            }
        }
        self.content = content
    }

    /// Writes everything, neighbouring runs of a kind as one.
    @discardableResult
    func write(to sink: any ImageWriter) throws -> ImageSummary {
        let encoder = try ChunkEncoder(sink.coding)
        var target = [UInt8](repeating: 0, count: ChunkCoding.bound(header.manifest.chunkByteCount))
        for (index, region) in header.manifest.regions.enumerated() {
            var run: (kind: RangeKind, range: ByteRange)?
            func flush() throws {
                if let run { try sink.appendRun(run.kind, region: index, range: run.range) }
                run = nil
            }
            var position = region.range.lowerBound
            while position < region.range.upperBound {
                let end = min(position + UInt64(header.manifest.chunkByteCount), region.range.upperBound)
                let range = position..<end
                position = end
                let relative = range.lowerBound - region.range.lowerBound..<end - region.range.lowerBound
                let bytes = Array(content[Int(range.lowerBound)..<Int(end)])
                let isUsed = !header.maps[index].ranges(in: relative).isEmpty
                if !isUsed || bytes.withUnsafeBytes(ZeroTest.isZero) {
                    let kind = isUsed ? RangeKind.zero : .unused
                    if let old = run, old.kind == kind {
                        run = (kind, old.range.lowerBound..<end)
                    } else {
                        try flush()
                        run = (kind, range)
                    }
                    continue
                }
                try flush()
                let id = sink.coding.identity.id(of: bytes)
                try target.withUnsafeMutableBytes { target in
                    let count = try bytes.withUnsafeBytes { try encoder.encode($0, id: id, into: target) }
                    try sink.append(
                        ChunkRecord(kind: .data, region: index, range: range, storedByteCount: count, hash: id),
                        stored: UnsafeRawBufferPointer(rebasing: target[..<count]))
                }
            }
            try flush()
        }
        return try sink.finish(LateFacts(ended: "2026-01-02T03:05:05Z"))
    }

    /// The whole disk that a reader gives, everything checked to the end.
    /// - Parameter later: fetch the stored bytes after all records were read, if the reader supports it.
    static func content(of reader: any ImageReader, later: Bool = false) throws -> [UInt8] {
        let decoder = try ChunkDecoder(reader.coding)
        var disk = [UInt8](repeating: 0, count: Int(reader.header.manifest.geometry.byteCount))
        var fetches: [(ChunkRecord, StoredFetch)] = []
        func place(_ record: ChunkRecord, _ fetch: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
            var stored = [UInt8](repeating: 0, count: record.storedByteCount)
            try stored.withUnsafeMutableBytes { try fetch($0) }
            try disk.withUnsafeMutableBytes { disk in
                let range = Int(record.range.lowerBound)..<Int(record.range.upperBound)
                try stored.withUnsafeBytes {
                    try decoder.decode(
                        $0, id: record.hash, into: UnsafeMutableRawBufferPointer(rebasing: disk[range]))
                }
            }
        }
        while let record = try reader.nextRecord() {
            guard record.kind == .data else { continue }
            if later {
                fetches.append((record, try #require(reader.storedFetch())))
            } else {
                try place(record) { try reader.readStored(into: $0) }
            }
        }
        for (record, fetch) in fetches { try place(record) { try fetch($0) } }
        _ = try #require(reader.ending)
        return disk
    }
}

/// Helpers for files read or made by tools.
enum ToolFile {
    /// Runs a tool that must succeed.
    @discardableResult
    static func run(_ arguments: [String]) throws -> ChildProcess.Output {
        let output = try ChildProcess.run(arguments)
        try #require(output.succeeded, "\(arguments): \(output.lastWords)")
        return output
    }
}
