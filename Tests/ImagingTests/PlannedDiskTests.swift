// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import NBD
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Disks that are read at any place as their capture would be.
@Suite struct PlannedDiskTests {
    /// A disk that calls ranges zeros, and counts reads.
    private final class Told: ServedDisk {
        let memory = MemoryDisk(byteCount: 1 << 20)
        let readByteCount = Monitor(0)
        let told: [DiskExtent]
        var byteCount: UInt64 { memory.byteCount }
        var logicalSectorSize: Int { 512 }
        var name: String { "told" }

        init(_ told: [DiskExtent]) { self.told = told }

        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
            readByteCount.update { $0 += buffer.count }
            try memory.read(into: buffer, at: offset)
        }

        func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
            var (position, result): (UInt64, [DiskExtent]) = (0, [])
            for extent in told {
                let part = (position..<position + extent.byteCount).clamped(to: range)
                if !part.isEmpty { result.append(DiskExtent(extent.kind, byteCount: part.byteCount)) }
                position += extent.byteCount
            }
            return result
        }
    }

    private func plan(patches: [UInt64: [UInt8]] = [:]) -> CapturePlan {
        var plan = CapturePlanner.verbatimRecording(
            of: DiskIdentity(path: "told", transport: "file"),
            DiskGeometry(byteCount: 1 << 20, logicalSectorSize: 512, physicalSectorSize: 512),
            table: PartitionTable(kind: .none, usable: 0..<1 << 20), .init(uuid: .random(), changed: 0))
        plan.patches = patches
        return plan
    }

    private func whole(_ disk: PlannedDisk) throws -> [DiskExtent] {
        var (position, extents): (UInt64, ExtentList) = (0, ExtentList())
        while position < disk.byteCount {
            for extent in try disk.extents(in: position..<disk.byteCount) {
                extents.append(extent.kind, extent.byteCount)
                position += extent.byteCount
            }
        }
        return extents.list
    }

    @Test func theZerosOfTheFormatAreNotRead() throws {
        let told = Told([
            .init(.data, byteCount: 4096), .init(.unused, byteCount: 8192), .init(.zero, byteCount: 512 << 10),
            .init(.data, byteCount: (1 << 20) - 4096 - 8192 - (512 << 10)),
        ])
        let disk = PlannedDisk(plan(), of: told, .extents(told))
        let zeros: UInt64 = 8192 + (512 << 10)
        #expect(
            try whole(disk) == [
                .init(.data, byteCount: 4096), .init(.zero, byteCount: zeros),
                .init(.data, byteCount: (1 << 20) - 4096 - zeros),
            ])
        #expect(told.readByteCount.update { $0 } == 0)
    }

    /// What has no image is an error: as a hole, a server would send zeros for it.
    @Test func missingRangesAreNoHoles() throws {
        let told = Told([.init(.zero, byteCount: 1 << 20)])
        let missing = AllocationMap(byteCount: 1 << 20, unsorted: [65536..<131_072])
        let disk = PlannedDisk(plan(), of: told, .extents(told), missing: missing)
        #expect(
            try whole(disk) == [
                .init(.zero, byteCount: 65536), .init(.data, byteCount: 65536),
                .init(.zero, byteCount: (1 << 20) - 131_072),
            ])
        do {
            _ = try disk.readBytes(at: 130_000, count: 4096)
            Issue.record("it was read")
        } catch { #expect((error as BlockIOError).errorNumber == Errno.ioError.rawValue) }
        #expect(try disk.readBytes(at: 131_072, count: 512) == Array(repeating: 0, count: 512))
    }

    /// A capture changes the header of swap that holds a sleeping system.
    @Test func aPatchedRangeIsNoHole() throws {
        let told = Told([.init(.zero, byteCount: 1 << 20)])
        let patch = [UInt8](repeating: 7, count: 4096)
        let disk = PlannedDisk(plan(patches: [8192: patch]), of: told, .extents(told))
        #expect(
            try whole(disk) == [
                .init(.zero, byteCount: 8192), .init(.data, byteCount: 4096),
                .init(.zero, byteCount: (1 << 20) - 12288),
            ])
        #expect(try disk.readBytes(at: 8192, count: 4096) == patch)
    }
}
