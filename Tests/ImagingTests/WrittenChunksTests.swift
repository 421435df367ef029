// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import TestSupport
import Testing

@testable import Imaging

/// The hashes of written chunks that `--verify` keeps.
@Suite struct WrittenChunksTests {
    private let seed = Sample.seed()
    private static let chunkByteCount = 64 << 10

    /// A disk without a table, divided into two regions.
    private func header(_ lengths: [UInt64], _ maps: [AllocationMap], chunkByteCount: Int) -> ImageHeader {
        var position: UInt64 = 0
        var regions: [Manifest.Region] = []
        for (length, map) in zip(lengths, maps) {
            regions.append(
                .init(kind: .gap, range: position..<position + length, usedByteCount: map.usedByteCount))
            position += length
        }
        let manifest = Manifest(
            imageUUID: .random(), captureSet: .init(uuid: .random()), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), disk: DiskIdentity(path: "/dev/made-up"),
            geometry: DiskGeometry(byteCount: position), table: PartitionTable(kind: .none, usable: 0..<position),
            tableHead: [], tableTail: [], boot: BootSurvey(), regions: regions, chunkByteCount: chunkByteCount,
            level: 3, allSectors: false, mountedReadWrite: [], usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount },
            started: "2026-01-02T03:04:05Z", localOffsetSeconds: 0, note: "", tags: [])
        return ImageHeader(manifest: manifest, maps: maps)
    }

    /// Records the chunks of a disk of these bytes, with each chunk of zeros as a record or as part of a run.
    private func note(
        _ bytes: [UInt8], _ header: ImageHeader, in written: inout WrittenChunks, _ random: inout SeededGenerator
    ) {
        let chunk = UInt64(Self.chunkByteCount)
        for (index, region) in header.manifest.regions.enumerated() {
            var position = region.range.lowerBound
            while position < region.range.upperBound {
                func content(_ range: ByteRange) -> [UInt8] {
                    var content = [UInt8](repeating: 0, count: Int(range.byteCount))
                    let start = range.lowerBound - region.range.lowerBound
                    for used in header.maps[index].ranges(in: start..<start + range.byteCount) {
                        for byte in used { content[Int(byte - start)] = bytes[Int(region.range.lowerBound + byte)] }
                    }
                    return content
                }
                var range = position..<min(position + chunk, region.range.upperBound)
                let first = content(range)
                let isZero = first.allSatisfy { $0 == 0 }
                let isRun = isZero && Bool.random(using: &random)
                while isRun, range.upperBound < region.range.upperBound {
                    let next = range.upperBound..<min(range.upperBound + chunk, region.range.upperBound)
                    guard content(next).allSatisfy({ $0 == 0 }) else { break }
                    range = range.lowerBound..<next.upperBound
                }
                let start = range.lowerBound - region.range.lowerBound
                let used = header.maps[index].ranges(in: start..<start + range.byteCount)
                    .map { $0.lowerBound - start..<$0.upperBound - start }
                written.add(
                    ChunkRecord(
                        kind: isRun ? .zero : .data, region: index, range: range, storedByteCount: 1,
                        hash: isRun ? nil : ContentHash(of: first)), used: used)
                position = range.upperBound
            }
        }
        written.finish()
    }

    /// With any number of groups: a changed used byte is found, and the error names a range around it; unused bytes are
    /// not compared.
    @Test(arguments: [1 << 18, 7, 1]) func everyChangedByteIsFound(mostGroups: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        // A debug build takes a second per comparison.
        for _ in 0..<(Sample.isFull ? 20 : 2) {
            let lengths = [UInt64.random(in: 1...20, using: &random), UInt64.random(in: 1...20, using: &random)]
                .map { $0 * 40_000 / 512 * 512 + 512 }
            let maps = lengths.map { length in
                AllocationMap(
                    byteCount: length,
                    unsorted: (0..<4).map { _ in
                        let start = UInt64.random(in: 0..<length, using: &random)
                        return start..<start + UInt64.random(in: 1...150_000, using: &random)
                    })
            }
            let header = header(lengths, maps, chunkByteCount: Self.chunkByteCount)
            let count = Int(lengths[0] + lengths[1])
            var bytes = (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
            for _ in 0..<3 {
                let start = Int.random(in: 0..<count, using: &random)
                let end = min(count, start + Int.random(in: 0...200_000, using: &random))
                bytes.replaceSubrange(start..<end, with: repeatElement(0, count: end - start))
            }
            let targets = [lengths[1], 0]
            var written = WrittenChunks(
                header, targets.map { .disk(offset: $0) }, identity: .plain, mostGroups: mostGroups)
            note(bytes, header, in: &written, &random)
            #expect(written.groupCount <= mostGroups, "seed \(seed)")
            // The regions are swapped on the target.
            let target = Array(bytes[Int(lengths[0])...] + bytes[..<Int(lengths[0])])
            func compare(_ target: [UInt8]) throws {
                let writer = TargetWriter(MemoryDisk(target), tailStart: UInt64(count))
                // No write is held back: the windows have the bytes of the target.
                target.withUnsafeBytes { writer.hold($0, at: 0) }
                try written.compare(with: writer, progress: Progress())
            }
            try compare(target)
            for _ in 0..<(Sample.isFull ? 8 : 3) {
                var changed = target
                let place = Int.random(in: 0..<count, using: &random)
                changed[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                let region = UInt64(place) < lengths[1] ? 1 : 0
                let inside = UInt64(place) - targets[region]
                guard maps[region].covers(inside..<inside + 1) else {
                    try compare(changed)
                    continue
                }
                let error = #expect(throws: ImagingError.self, "byte \(place), seed \(seed)") { try compare(changed) }
                guard case .block(let error) = error else {
                    Issue.record("another error, seed \(seed)")
                    continue
                }
                #expect((error.offset..<error.offset + error.byteCount).contains(UInt64(place)), "seed \(seed)")
                if mostGroups > 100 { #expect(error.byteCount <= UInt64(Self.chunkByteCount)) }
            }
        }
    }

    /// A disk of more chunks than groups (`REFORGE_CHUNKS` sets their number): the kept hashes do not grow with it.
    @Test func aLargeDiskTakesLittleMemory() throws {
        let count =
            SystemFacts.environment("REFORGE_CHUNKS").flatMap { UInt64($0) } ?? (Sample.isFull ? 2_000_000 : 300_000)
        let chunk: UInt64 = 1 << 20
        let length = count * chunk
        let header = header([length], [.whole(byteCount: length)], chunkByteCount: 1 << 20)
        let before = ProcessMemory.residentByteCount()
        var written = WrittenChunks(header, [.disk(offset: 0)], identity: .plain)
        let zero = ContentHash(of: [])
        let used: [ByteRange] = [0..<chunk]
        for number in 0..<count {
            let start = number * chunk
            written.add(
                ChunkRecord(
                    kind: .data, region: 0, range: start..<start + chunk, storedByteCount: 1, hash: zero), used: used)
        }
        written.finish()
        let after = ProcessMemory.residentByteCount()
        #expect(UInt64(written.groupCount) == (count + written.groupChunkCount - 1) / written.groupChunkCount)
        #expect(UInt64(written.groupCount) <= WrittenChunks.mostGroups)
        print(
            "verify of \(count) chunks: \(written.groupCount) hashes of \(written.groupChunkCount) chunks each; resident "
                + "\(before >> 20) MiB before, \(after >> 20) MiB after")
        // Parallel tests use memory of the same process.
        guard SystemFacts.environment("REFORGE_CHUNKS") != nil else { return }
        #expect(after - before < 64 << 20)
    }
}
