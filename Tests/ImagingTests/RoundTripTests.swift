// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import ImageFiles
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

@Suite struct RoundTripTests {
    private let seed = Sample.seed()

    @Test func whatWasCapturedComesBackOntoALargerDisk() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let length = 20 << 20
        let target = MemoryDisk((0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
        let plan = try made.plan(targetByteCount: length)
        let (executor, _) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(executor.state == .complete)
        let bytes = target.bytes
        let expected = made.expected(plan, targetByteCount: length)
        let wrong = expected.indices.first { index in expected[index].map { $0 != bytes[index] } ?? false }
        #expect(wrong == nil, "seed \(seed)")
        let table = try #require(try GPTReader.read(MemoryDisk(bytes)))
        #expect(table.condition == .intact && table.partitions == made.header.manifest.table.partitions)
        #expect(bytes[0] == 0xEB && bytes[700_000] == 0x42)
        // The unwritten ends of a partition are zero: no stale signature is left.
        let two = try #require(table.partitions.last)
        let map = try #require(
            made.header.maps.indices.first { made.header.manifest.regions[$0].partition == two.number })
        for offset in made.header.maps[map].complement.ranges.flatMap(Array.init) where offset < 1 << 20 {
            guard bytes[Int(two.range.lowerBound + offset)] == 0 else {
                Issue.record("byte \(offset) of partition 2 is stale, seed \(seed)")
                return
            }
        }
    }

    @Test func theSameSizeGivesTheSameTableToTheBit() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        let target = MemoryDisk(byteCount: MadeUpDisk.byteCount)
        _ = try restore(image, onto: target, plan: try made.plan(targetByteCount: MadeUpDisk.byteCount))
        #expect(target.bytes == made.bytes, "seed \(seed)")
    }

    /// An MBR with its boot records: equal bytes on a disk of the same size; the same table on larger and smaller ones.
    @Test(arguments: [12, 20, 11]) func anMBRComesBack(mebibytes: Int) throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true, table: MadeUpDisk.mbr)
        _ = try made.capture(to: image)
        let target = MemoryDisk((0..<mebibytes << 20).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
        let plan = try made.plan(targetByteCount: mebibytes << 20)
        #expect(plan.tableIsUnchanged && plan.items.map(\.number) == [1, 5, 6])
        let (executor, _) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(executor.state == .complete)
        // After the last partition, only a disk of the same size gets the same bytes.
        let bytes = target.bytes
        let wrong = (0..<(mebibytes == 12 ? 12 : 9) << 20).first { bytes[$0] != made.bytes[$0] }
        #expect(wrong == nil, "seed \(seed)")
        let table = try #require(try MBRReader.read(target))
        #expect(table.partitions == made.header.manifest.table.partitions)
    }

    @Test func theImageIsAZstdFileOfTheRawDisk() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        let raw = scratch.path.appending("raw")
        let test = try ChildProcess.run(["zstd", "-q", "-t", image.string])
        #expect(test.succeeded, "\(test.lastWords)")
        let output = try ChildProcess.run(["zstd", "-q", "-d", image.string, "-o", raw.string])
        #expect(output.succeeded, "\(output.lastWords)")
        #expect(try Files.read(raw) == made.bytes, "seed \(seed)")
    }

    @Test func theNumberOfWorkersDoesNotShow() throws {
        let scratch = try ScratchFolder()
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: scratch.path.appending("one"), workers: 1)
        let outcome = try made.capture(to: scratch.path.appending("four"), workers: 4)
        // Everything except the end time is equal.
        let one = try ImageFile(scratch.path.appending("one"))
        #expect(one.footer.imageID == outcome.summary.id)
        #expect(outcome.readByteCount == made.header.manifest.usedByteCount)
    }

    @Test func verifyReadsEverything() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let file = try OwnedDescriptor.open(image, .readOnly)
        let outcome = try CaptureVerifier.verify(try ImageStreamReader(file.raw, name: "image"), progress: Progress())
        #expect(outcome.chunkCount > 10)
    }
}
