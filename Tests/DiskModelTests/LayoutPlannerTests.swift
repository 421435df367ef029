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
            // There is data behind the filesystem, such as a verity tree.
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
            let least = try #require(error.leastByteCount)
            #expect(least == 91 * Self.mebibyte + 33 * 512)
            let again = try LayoutPlanner.plan(
                table, source: DiskGeometry(byteCount: disk), filesystems: [:],
                target: DiskGeometry(byteCount: least), policy: .keep)
            #expect(again.placements.count == 1)
        }
    }
}
