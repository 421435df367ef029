// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// One partition of an image into an existing one.
@Suite struct OnlyTests {
    private let seed = Sample.seed()

    /// A disk with the same table and other contents.
    private func target(_ made: MadeUpDisk) throws -> (MemoryDisk, [UInt8], PartitionTable) {
        var bytes = made.bytes
        var random = SeededGenerator(seed: seed &+ 1)
        let table = try PartitionTableReader.read(MemoryDisk(bytes))
        for partition in table.partitions where partition.isVolume {
            for word in partition.range.lowerBound / 8..<partition.range.upperBound / 8 {
                bytes.setLittleEndian(random.next(), at: Int(word) * 8)
            }
        }
        return (MemoryDisk(bytes), bytes, table)
    }

    private func plan(
        _ made: MadeUpDisk, _ number: Int, into existing: Int? = nil, _ table: PartitionTable
    ) throws -> RestorePlan {
        try RestorePlanner.plan(
            only: number, into: existing, of: made.header, onto: DiskIdentity(path: "target"),
            geometry: DiskGeometry(byteCount: UInt64(MadeUpDisk.byteCount)), existing: table, policy: .grow)
    }

    @Test(arguments: [(MadeUpDisk.gpt, 1), (MadeUpDisk.gpt, 2), (MadeUpDisk.mbr, 5)])
    func nothingElseIsTouched(script: String, number: Int) throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true, table: script)
        _ = try made.capture(to: image)
        let (target, before, table) = try target(made)
        let plan = try plan(made, number, table)
        #expect(plan.items.map(\.number) == [number])
        let (executor, _) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(executor.state == .complete)
        let range = try #require(table.partitions.first { $0.number == number }?.range)
        let after = target.bytes
        let wrong = after.indices.first { index in
            after[index] != (range.contains(UInt64(index)) ? made.bytes[index] : before[index])
        }
        #expect(wrong == nil, "seed \(seed)")
    }

    /// After every prefix of the writes: bytes outside of the partition are unchanged, and until the last step the
    /// start of the partition is blank.
    @Test func aPowerCutLeavesTheOthers() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        let (_, before, table) = try target(made)
        let range = try #require(table.partitions.first?.range)
        let plan = try plan(made, 1, table)
        for limit in stride(from: 1, to: 60, by: 7) {
            let disk = MemoryDisk(before)
            disk.fail(after: limit)
            _ = try? restore(image, onto: disk, plan: plan)
            let after = disk.bytes
            let wrong = after.indices.first { !range.contains(UInt64($0)) && after[$0] != before[$0] }
            #expect(wrong == nil, "seed \(seed), write \(limit)")
        }
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let made = try MadeUpDisk(seed: seed)
        let (_, _, table) = try target(made)
        // The second is smaller than the first, and there is no third.
        #expect(throws: ImagingError.self) { try plan(made, 1, into: 2, table) }
        #expect(throws: ImagingError.self) { try plan(made, 3, table) }
        #expect(throws: ImagingError.self) { try plan(made, 1, into: 9, table) }
        let into = try plan(made, 2, into: 1, table)
        #expect(into.only == .init(number: 2, existing: 1, range: table.partitions[0].range))
        var damaged = table
        damaged.condition = .backupDamaged
        #expect(throws: ImagingError.self) { try plan(made, 1, damaged) }
    }
}
