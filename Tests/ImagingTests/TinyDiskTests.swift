// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Disks without room for a journal.
@Suite struct TinyDiskTests {
    /// A disk of any length is restored; the last write is that of block 0, and an interrupted restore starts from the
    /// beginning.
    @Test(arguments: [512, 5000, 65_536, 100_000, 140_000, 262_143, 262_144]) func itComesBack(byteCount: Int) throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        var random = SeededGenerator(seed: UInt64(byteCount))
        let bytes = (0..<byteCount).map { _ in UInt8.random(in: 1...255, using: &random) }
        let source = MemoryDisk(bytes)
        let range: ByteRange = 0..<UInt64(byteCount)
        let survey = DiskSurvey(
            identity: DiskIdentity(path: "tiny"), geometry: DiskGeometry(byteCount: UInt64(byteCount)),
            table: PartitionTable(kind: .unknown, usable: range),
            volumes: [
                VolumeSurvey(
                    range: range, partition: nil,
                    filesystem: FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole),
                    allocation: .whole(byteCount: UInt64(byteCount)))
            ])
        let header = CapturePlanner.plan(
            survey, tableBytes: CapturedTable(head: [], tail: [], byteCount: UInt64(byteCount), sectorSize: 512),
            options: CaptureOptions(chunkByteCount: 64 << 10),
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), mounted: [], toolVersion: "test",
            started: "2026-01-01T00:00:00Z", localOffsetSeconds: 0
        ).header
        let output = try ImageOutput(image, overwrite: true)
        let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: header)
        _ = try CaptureExecutor(
            source: source, plan: CapturePlan(header: header, patches: [:]), progress: Progress(), workers: 2
        ).run(writer)
        try output.commit()
        let plan = try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: UInt64(byteCount)),
            request: LayoutRequest(policy: .keep))
        let target = MemoryDisk([UInt8](repeating: 0xDB, count: byteCount))
        let (executor, outcome) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(executor.state == .complete && outcome.resumedFrom == nil && target.bytes == bytes)
        let effectCount = target.log.count
        let last = target.log.last { if case .write = $0 { true } else { false } }
        guard case .write(0, let block) = last else {
            Issue.record("block 0 is not written last: \(String(describing: last))")
            return
        }
        #expect(block == Array(bytes.prefix(512)))
        for count in 0..<effectCount {
            let failing = MemoryDisk([UInt8](repeating: 0xDB, count: byteCount))
            failing.fail(after: count)
            #expect(throws: ImagingError.self) { try restore(image, onto: failing, plan: plan) }
            let again = MemoryDisk(failing.bytes)
            _ = try restore(image, onto: again, plan: plan)
            #expect(again.bytes == bytes)
        }
    }
}
