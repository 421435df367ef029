// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// A volume that exceeds its new partition: its start is on the target, the rest on a scratch.
@Suite struct SpillTests {
    private let mebibyte: UInt64 = 1 << 20

    private func regions(_ target: MemoryDisk, _ scratch: MemoryDisk) throws -> [PlacedRegion] {
        let writer = TargetWriter(target, tailStart: target.byteCount, scratch: scratch)
        let spills: [RestorePlan.Spill] = [
            .init(front: 2 * mebibyte..<4 * mebibyte, byteCount: 5 * mebibyte, scratchOffset: 0),
            .init(front: 5 * mebibyte..<6 * mebibyte, byteCount: 4 * mebibyte, scratchOffset: 3 * mebibyte),
        ]
        return try spills.map { spill in
            try #require(PlacedRegion(.spill(spill), byteCount: spill.byteCount, on: writer))
        }
    }

    @Test func everyByteGoesToItsPlace() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let (target, scratch) = (MemoryDisk(byteCount: 8 << 20), MemoryDisk(byteCount: 6 << 20))
        let regions = try regions(target, scratch)
        // The expected bytes of both volumes, written in pieces that cross every boundary.
        var volumes = [[UInt8](repeating: 0, count: 5 << 20), [UInt8](repeating: 0, count: 4 << 20)]
        for _ in 0..<300 {
            let volume = Int.random(in: 0...1, using: &random)
            let length = volumes[volume].count
            let start = Int.random(in: 0..<length / 512, using: &random) * 512
            let count = min(length - start, Int.random(in: 1...3000, using: &random) * 512)
            let offset = UInt64(start)
            if Int.random(in: 0..<4, using: &random) == 0 {
                try regions[volume].writeZeros(offset..<offset + UInt64(count))
                for index in start..<start + count { volumes[volume][index] = 0 }
            } else {
                let byte = UInt8.random(in: 1...255, using: &random)
                let bytes = [UInt8](repeating: byte, count: count)
                try bytes.withUnsafeBytes { try regions[volume].write($0, at: offset) }
                for index in start..<start + count { volumes[volume][index] = byte }
            }
        }
        let (disk, rest) = (target.bytes, scratch.bytes)
        let first = Array(disk[2 << 20..<4 << 20]) + Array(rest[0..<3 << 20])
        let second = Array(disk[5 << 20..<6 << 20]) + Array(rest[3 << 20..<6 << 20])
        #expect((first == volumes[0]) == true, "seed \(seed)")
        #expect((second == volumes[1]) == true, "seed \(seed)")
        // The rest of the target is unchanged.
        #expect(disk[0..<2 << 20].allSatisfy { $0 == 0 } && disk[4 << 20..<5 << 20].allSatisfy { $0 == 0 })
        #expect(disk[6 << 20..<8 << 20].allSatisfy { $0 == 0 })
        var read = [UInt8](repeating: 0xAA, count: 3 << 20)
        try read.withUnsafeMutableBytes { try regions[0].read(into: $0, at: mebibyte) }
        #expect((read == Array(volumes[0][1 << 20..<4 << 20])) == true, "seed \(seed)")
    }

    @Test func whatIsOnNoVolumeIsAnError() throws {
        let regions = try regions(MemoryDisk(byteCount: 8 << 20), MemoryDisk(byteCount: 6 << 20))
        #expect(throws: BlockIOError.self) { try regions[1].writeZeros(4 * mebibyte..<5 * mebibyte) }
        #expect(throws: BlockIOError.self) { try regions[0].writeZeros(4 * mebibyte..<6 * mebibyte) }
    }

    /// Lengths, destinations and steps of the plan.
    @Test func thePlanNamesTheRoomOfTheScratch() throws {
        var header = try MadeUpDisk(seed: 7, allUsed: true).header
        let index = try #require(header.manifest.regions.firstIndex { $0.partition == 1 })
        header.manifest.regions[index].filesystem = FilesystemInfo(
            kind: .ext4, kindName: "ext4", byteCount: 3 << 20, mapSource: .allocationStructures,
            leastByteCount: 1 << 20)
        var map = AllocationMap(byteCount: 3 << 20)
        map.insert(0..<500 << 10)
        map.insert(2500 << 10..<2600 << 10)
        header.maps[index] = map
        let identity = DiskIdentity(path: "target")
        let request = LayoutRequest(policy: .keep, wishes: [1: .size(2 << 20)])
        let plan = try RestorePlanner.plan(
            header, onto: identity, geometry: DiskGeometry(byteCount: 12 << 20), request: request)
        #expect(plan.shrinks.map(\.number) == [1] && plan.shrinks[0].range.byteCount == 2 << 20)
        #expect(plan.scratchByteCount == 100 << 10)
        let spill = try #require(plan.spills.first)
        #expect(plan.destinations[index] == .spill(spill))
        #expect(plan.spills.map(\.front) == [plan.shrinks[0].range])
        #expect(plan.steps(header, .init()).contains(.shrink(partition: 1)))
        // Older versions use this number for a spilled region, in `--json` and in the digest of a journal.
        let json = try JSONText.decode(PlanJSON.self, try JSONText.encode(RestorePlan.JSON(plan, warnings: [])))
        #expect(json.regionTargets[index] == 1 << 61)
        #expect(plan.items.first { $0.number == 1 }?.action.contains("shrink") == true)
        // On a machine that cannot shrink filesystems, the refusal has the reason.
        let refusal = #expect(throws: ImagingError.self) {
            try RestorePlanner.plan(
                header, onto: identity, geometry: DiskGeometry(byteCount: 12 << 20), request: request,
                obstacles: .init(shrink: "this kernel has no device-mapper"))
        }
        #expect("\(try #require(refusal))".contains("no device-mapper"))
    }
}

/// The members of a plan's JSON that these tests read.
struct PlanJSON: Decodable {
    var regionTargets: [UInt64?]
}
