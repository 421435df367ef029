// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// A disk with bad sectors: readable data is captured, and the image lists the unreadable ranges.
@Suite struct RescueCaptureTests {
    private let seed = Sample.seed()

    /// Bad sectors in partition 1, used and unused.
    private func damaged(_ made: MadeUpDisk, _ random: inout SeededGenerator) -> (MemoryDisk, [ByteRange]) {
        let disk = MemoryDisk(made.bytes)
        let sectors = Set((0..<20).map { _ in UInt64.random(in: 2048..<8192, using: &random) }).sorted()
        for sector in sectors { disk.makeUnreadable(sector * 512..<(sector + 1) * 512) }
        return (disk, sectors.map { $0 * 512..<($0 + 1) * 512 })
    }

    @Test func holesAreRecordedAndEverythingElseComesBack() throws {
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        var made = try MadeUpDisk(seed: seed)
        made.header.manifest.incompatibleFeatures = [Manifest.unreadableFeature]
        let (disk, bad) = damaged(made, &random)
        let region = try #require(made.header.manifest.regions.firstIndex { $0.partition == 1 })
        let start = made.header.manifest.regions[region].range.lowerBound
        let used = made.header.maps[region]
        let inUse = bad.flatMap { range in
            used.ranges(in: range.lowerBound - start..<range.upperBound - start).map {
                $0.lowerBound + start..<$0.upperBound + start
            }
        }
        let output = try ImageOutput(path, overwrite: true)
        let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: made.header)
        let outcome = try CaptureExecutor(
            source: RescueReader(disk), plan: CapturePlan(header: made.header, patches: [:]), progress: Progress()
        ).run(writer)
        try output.commit()
        let recorded = AllocationMap(byteCount: disk.byteCount, unsorted: outcome.unreadable)
        #expect(recorded == AllocationMap(byteCount: disk.byteCount, unsorted: inUse), "seed \(seed)")
        let image = try ImageFile(path)
        #expect(image.lateFacts.unreadable == recorded.ranges)
        // Readable bytes are right, and unreadable ranges are zeros.
        let target = MemoryDisk(byteCount: MadeUpDisk.byteCount)
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let (_, restored) = try restore(path, onto: target, plan: plan)
        #expect(inUse.isEmpty || restored.warnings.contains { $0.contains("partition 1") }, "seed \(seed)")
        let bytes = target.bytes
        let expected = made.expected(plan, targetByteCount: MadeUpDisk.byteCount)
        let wrong = expected.indices.first { index in
            guard let byte = expected[index] else { return false }
            let isHole = recorded.covers(UInt64(index)..<UInt64(index) + 1)
            return bytes[index] != (isHole ? 0 : byte)
        }
        #expect(wrong == nil, "byte \(wrong ?? 0), seed \(seed)")
    }

    /// Nothing on the target of a clone records the holes, so its state must.
    @Test(arguments: [true, false]) func aCloneWithHolesIsNotComplete(inUse: Bool) throws {
        var made = try MadeUpDisk(seed: seed)
        made.header.manifest.codec = "stored"
        let index = try #require(made.header.manifest.regions.firstIndex { $0.partition == 1 })
        let start = made.header.manifest.regions[index].range.lowerBound
        let map = made.header.maps[index]
        let offset = try #require((inUse ? map : map.complement).ranges.first).lowerBound + start
        let disk = MemoryDisk(made.bytes)
        disk.makeUnreadable(offset..<offset + 512)
        let recording = try DiskRecording(
            CapturePlan(header: made.header, patches: [:]), of: RescueReader(disk), confirmEnd: {})
        let executor = RestoreExecutor(
            try made.plan(targetByteCount: MadeUpDisk.byteCount), target: MemoryDisk(byteCount: MadeUpDisk.byteCount),
            targetPath: nil, options: .init(verify: true), progress: Progress())
        let outcome = try executor.run(recording)
        #expect(executor.state == (inUse ? .salvaged : .complete), "seed \(seed)")
        #expect(outcome.lost.map(\.captured) == (inUse ? [offset..<offset + 512] : []), "seed \(seed)")
        #expect(outcome.lost.allSatisfy { $0.partition == 1 })
    }

    @Test func withoutRescueTheFirstErrorEndsTheCapture() throws {
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        let (disk, bad) = damaged(made, &random)
        do {
            _ = try made.capture(to: scratch.path.appending("image"), source: disk)
            Issue.record("a disk with holes was captured, seed \(seed)")
        } catch let error as ImagingError {
            guard case .block(let block) = error else { throw error }
            // Workers read in parallel, so the named sector need not be the first: its chunk has a bad sector.
            #expect(bad.contains { $0.overlaps(block.offset..<block.offset + block.byteCount) }, "seed \(seed)")
        }
    }

    /// Unreadable entries of a FAT look free: the filesystem is captured whole.
    @Test(.enabled(if: Files.exists("/usr/sbin/mkfs.fat"), "needs dosfstools"))
    func aVolumeWithUnreadableStructuresIsTakenWhole() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("fat")
        let byteCount = 16 << 20
        try Files.write([UInt8](repeating: 0, count: byteCount), to: path)
        let made = try ChildProcess.run(["/usr/sbin/mkfs.fat", "-F", "16", "-s", "2", path.string])
        try #require(made.succeeded)
        var bytes = try BlockDevice(opening: path).readBytes(at: 0, count: byteCount)
        // Sector 3 of both tables, with entries of used clusters.
        let tableSectors = Int(bytes[22]) + Int(bytes[23]) << 8
        let first = Int(bytes[14]) + Int(bytes[15]) << 8
        let places = [first + 3, first + tableSectors + 3].map { $0 * 512..<($0 + 1) * 512 }
        for place in places { for index in place { bytes[index] = 0xFF } }
        func survey(_ disk: any BlockReader) throws -> DiskSurvey {
            try DiskSurveyor.survey(
                disk, identity: DiskIdentity(path: "memory"),
                geometry: DiskGeometry(byteCount: disk.byteCount, logicalSectorSize: 512, physicalSectorSize: 512))
        }
        let right = try survey(MemoryDisk(bytes)).volumes[0].allocation
        let disk = MemoryDisk(bytes)
        for place in places { disk.makeUnreadable(UInt64(place.lowerBound)..<UInt64(place.upperBound)) }
        let reader = RescueReader(disk)
        let read = try survey(reader)
        #expect(!right.isSubset(of: read.volumes[0].allocation), "or this tests nothing")
        let taken = read.takingWhole(unreadable: reader.unreadable)
        #expect(taken.volumes[0].allocation == .whole(byteCount: UInt64(byteCount)))
        #expect(taken.volumes[0].filesystem.mapSource == .whole)
        #expect(taken.volumes[0].filesystem.wholeReason == "its allocation structures could not all be read")
        #expect(taken.warnings.count == read.warnings.count + 1)
        #expect(read.takingWhole(unreadable: AllocationMap(byteCount: UInt64(byteCount))) == read)
    }

    @Test func anInterruptedReadIsAnInterruption() {
        let error = BlockIOError(.read, name: "disk", offset: 0, byteCount: 512, errorNumber: 4, reason: "stop")
        guard case .interrupted = ImagingError(error) else {
            Issue.record("\(ImagingError(error))")
            return
        }
    }
}
