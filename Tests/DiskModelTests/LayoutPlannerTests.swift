// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport
import Testing

@testable import DiskModel

@Suite struct LayoutPlannerTests {
    static let mebibyte: UInt64 = 1 << 20

    private func guid(_ text: String) -> GUID { GUID(text) ?? .zero }
    private func ext(_ byteCount: UInt64, _ mountPoint: String? = nil) -> FilesystemInfo {
        FilesystemInfo(
            kind: .ext4, kindName: "ext4", byteCount: byteCount, mapSource: .allocationStructures,
            lastMountPoint: mountPoint)
    }

    /// A table of partitions of (type, MiB), packed from 1 MiB on.
    private func table(_ parts: [(type: String, mebibytes: UInt64)], disk: UInt64) -> PartitionTable {
        var position = Self.mebibyte
        let partitions = parts.enumerated().map { index, part in
            let range = position..<position + part.mebibytes * Self.mebibyte
            position = range.upperBound
            return Partition(number: index + 1, range: range, typeGUID: guid(part.type), guid: .random())
        }
        return PartitionTable(
            kind: .gpt, usable: 34 * 512..<disk - 33 * 512, entryCount: 128, partitions: partitions)
    }

    @Test func swapBehindTheRootMovesToTheEnd() throws {
        let disk = 100 * Self.mebibyte
        let table = table(
            [(PartitionType.efiSystem, 10), (PartitionType.linuxFilesystem, 60), (PartitionType.linuxSwap, 20)],
            disk: disk)
        let layout = try LayoutPlanner.plan(
            table, source: DiskGeometry(byteCount: disk), filesystems: [2: ext(60 * Self.mebibyte)],
            target: DiskGeometry(byteCount: 200 * Self.mebibyte), policy: .grow)
        // The end: 200 MiB less 33 sectors, rounded down to whole MiB for the swap's start.
        #expect(layout.placements[2].to == 179 * Self.mebibyte..<199 * Self.mebibyte)
        #expect(layout.placements[1].to == 11 * Self.mebibyte..<179 * Self.mebibyte)
        #expect(layout.placements[0].to == layout.placements[0].from)
    }

    @Test func bootAndForeignPartitionsNeverGrow() throws {
        let disk = 100 * Self.mebibyte
        let target = DiskGeometry(byteCount: 200 * Self.mebibyte)
        for (type, filesystem) in [
            (PartitionType.extendedBoot, ext(50 * Self.mebibyte)),
            (PartitionType.linuxFilesystem, ext(50 * Self.mebibyte, "/boot")),
            // Something stands behind the filesystem: a verity tree, say.
            (PartitionType.linuxFilesystem, ext(40 * Self.mebibyte)),
            (PartitionType.efiSystem, ext(50 * Self.mebibyte)),
            (PartitionType.windowsRecovery, ext(50 * Self.mebibyte)),
            (PartitionType.linuxFilesystem, FilesystemInfo(kind: .other, kindName: "xfs", mapSource: .whole)),
        ] {
            let table = table([(type, 50)], disk: disk)
            let layout = try LayoutPlanner.plan(
                table, source: DiskGeometry(byteCount: disk), filesystems: [1: filesystem], target: target,
                policy: .grow)
            #expect(layout.placements.allSatisfy { $0.from == $0.to })
            #expect(!layout.remarks.isEmpty)
        }
    }

    @Test func aTargetTooSmallNamesTheSizeThatWouldDo() throws {
        let disk = 100 * Self.mebibyte
        let table = table([(PartitionType.linuxFilesystem, 90)], disk: disk)
        let small = DiskGeometry(byteCount: 80 * Self.mebibyte)
        do {
            _ = try LayoutPlanner.plan(
                table, source: DiskGeometry(byteCount: disk), filesystems: [:], target: small, policy: .keep)
            Issue.record("it fitted")
        } catch {
            #expect(error.leastByteCount == 91 * Self.mebibyte + 33 * 512)
            let again = try LayoutPlanner.plan(
                table, source: DiskGeometry(byteCount: disk), filesystems: [:],
                target: DiskGeometry(byteCount: error.leastByteCount), policy: .keep)
            #expect(again.placements.count == 1)
        }
    }

    /// Over random disks: nothing overlaps, nothing is outside, what moved is aligned, order and least sizes are kept,
    /// and a refused size names one that works.
    @Test func randomDisksKeepTheirInvariants() throws {
        let seed: UInt64 = .random(in: .min ... .max)
        var random = SeededGenerator(seed: seed)
        let types = [
            PartitionType.efiSystem, PartitionType.linuxFilesystem, PartitionType.linuxSwap, PartitionType.biosBoot,
            PartitionType.microsoftBasicData, PartitionType.windowsRecovery,
        ]
        for _ in 0..<20_000 {
            let sector: UInt64 = Bool.random(using: &random) ? 512 : 4096
            var position = UInt64.random(in: 6...4096, using: &random) * sector
            var partitions: [Partition] = []
            var filesystems: [Int: FilesystemInfo] = [:]
            for number in 1...Int.random(in: 1...8, using: &random) {
                let length = UInt64.random(in: 1...100_000, using: &random) * sector
                partitions.append(
                    Partition(
                        number: number, range: position..<position + length,
                        typeGUID: guid(types.randomElement(using: &random) ?? ""), guid: .random()))
                if Bool.random(using: &random) { filesystems[number] = ext(length) }
                position +=
                    length + UInt64.random(in: 0...2, using: &random) * UInt64.random(in: 0...5000, using: &random)
                    * sector
            }
            partitions.shuffle(using: &random)
            let backup = (16_384 / sector + 1) * sector
            let disk = position + backup + UInt64.random(in: 0...10_000, using: &random) * sector
            let table = PartitionTable(
                kind: .gpt, usable: 6 * sector..<disk - backup, entryCount: 128, partitions: partitions)
            let source = DiskGeometry(byteCount: disk, logicalSectorSize: Int(sector))
            var target = source
            target.byteCount = UInt64.random(in: 1...2 * disk, using: &random)
            target.optimalIOSize = [0, 4096, 4 << 20, 33_553_920].randomElement(using: &random) ?? 0
            let policy = LayoutPolicy.allCases.randomElement(using: &random) ?? .keep
            do {
                let layout = try LayoutPlanner.plan(
                    table, source: source, filesystems: filesystems, target: target, policy: policy)
                try check(layout, table, target, backup, policy, seed)
            } catch let error as LayoutError {
                target.byteCount = error.leastByteCount
                let layout = try LayoutPlanner.plan(
                    table, source: source, filesystems: filesystems, target: target, policy: policy)
                try check(layout, table, target, backup, policy, seed)
            }
        }
    }

    private func check(
        _ layout: DiskLayout, _ table: PartitionTable, _ target: DiskGeometry, _ backup: UInt64, _ policy: LayoutPolicy,
        _ seed: UInt64
    ) throws {
        let byPlace = layout.placements.sorted { $0.to.lowerBound < $1.to.lowerBound }
        var failures: [String] = []
        if zip(byPlace, byPlace.dropFirst()).contains(where: { $0.to.overlaps($1.to) }) { failures.append("overlap") }
        if zip(byPlace, byPlace.dropFirst()).contains(where: { $0.from.lowerBound > $1.from.lowerBound }) {
            failures.append("order")
        }
        for placement in layout.placements {
            if placement.to.upperBound > target.byteCount - backup { failures.append("outside") }
            if placement.to.byteCount < placement.from.byteCount { failures.append("shrunk") }
            if placement.isMoved, placement.to.lowerBound % target.partitionAlignment != 0 {
                failures.append("alignment")
            }
            if placement.to.lowerBound % UInt64(target.logicalSectorSize) != 0 { failures.append("sector") }
        }
        if policy == .keep, layout.placements.contains(where: { $0.from != $0.to }) { failures.append("kept") }
        if layout.placements.count(where: \.isGrown) > 1 { failures.append("several grown") }
        #expect(failures.isEmpty, "\(failures), seed \(seed)")
    }
}
