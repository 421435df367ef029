// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Capture, verification, copy and restore of xz archives.
@Suite struct ArchiveTests {
    private let seed = Sample.seed()

    private func archive(_ made: MadeUpDisk, at path: FilePath) throws {
        var header = made.header
        header.manifest.level = 2
        let writer = try XZImageWriter(path, overwrite: false, header: header)
        let executor = CaptureExecutor(
            source: MemoryDisk(made.bytes), plan: CapturePlan(header: header, patches: [:]), progress: Progress(),
            workers: 3)
        _ = try executor.run(writer)
    }

    private func restored(_ reader: any ImageReader, _ plan: RestorePlan, byteCount: Int) throws -> [UInt8] {
        let target = MemoryDisk((0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
        let executor = RestoreExecutor(
            plan, target: target, targetPath: nil, options: .init(verify: true), progress: Progress())
        _ = try executor.run(reader)
        #expect(executor.state == .complete)
        return target.bytes
    }

    @Test func anArchiveIsVerifiedAndRestored() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        try archive(made, at: path)
        let outcome = try CaptureVerifier.verify(try XZImageReader(path), progress: Progress())
        #expect(outcome.chunkCount > 10)
        #expect(outcome.ending == (try XZImageReader(path)).knownEnding)
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let bytes = try restored(try XZImageReader(path), plan, byteCount: MadeUpDisk.byteCount)
        #expect(bytes == made.bytes, "seed \(seed)")
    }

    @Test func aCopyIntoAnImageHoldsTheSameDisk() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let copy = scratch.path.appending("copy.img.zst")
        let made = try MadeUpDisk(seed: seed)
        try archive(made, at: path)
        for chunkByteCount in [64 << 10, 256 << 10, 1 << 20] {
            let contents = try ImageContents(try XZImageReader(path))
            var header = try XZImageReader(path).header
            header.manifest.codec = "zstd"
            header.manifest.level = 3
            header.manifest.chunkByteCount = chunkByteCount
            let output = try ImageOutput(copy, overwrite: true)
            let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: header)
            let executor = CaptureExecutor(
                source: contents, plan: CapturePlan(header: header, patches: [:]), progress: Progress(), workers: 4)
            _ = try executor.run(writer, beforeEnd: { try contents.readToEnd() })
            try output.commit()
            let plan = try RestorePlanner.plan(
                header, onto: DiskIdentity(path: "target"),
                geometry: DiskGeometry(byteCount: UInt64(MadeUpDisk.byteCount)), request: LayoutRequest(policy: .keep))
            let file = try OwnedDescriptor.open(copy, .readOnly)
            let reader = try ImageStreamReader(file.raw, name: "copy")
            let bytes = try restored(reader, plan, byteCount: MadeUpDisk.byteCount)
            let expected = made.expected(plan, targetByteCount: MadeUpDisk.byteCount)
            let wrong = expected.indices.first { index in expected[index].map { $0 != bytes[index] } ?? false }
            #expect(wrong == nil, "seed \(seed), chunks of \(chunkByteCount)")
        }
    }
}
