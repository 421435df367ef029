// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// A delta restore gives the same bytes as a plain one, and writes only chunks that differ.
@Suite struct DeltaTests {
    private let seed = Sample.seed()

    @Test func anUnchangedDiskIsNotWritten() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        let target = MemoryDisk(made.bytes)
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let (_, outcome) = try restore(image, onto: target, plan: plan, options: .init(delta: true))
        #expect(outcome.writtenByteCount == 0, "seed \(seed)")
        #expect(target.bytes == made.bytes, "seed \(seed)")
    }

    @Test func onlyTheChunksThatDifferAreWritten() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        var random = SeededGenerator(seed: seed)
        var changed = made.bytes
        var chunks: Set<Int> = []
        for _ in 0..<5 {
            // Partition 1 starts at 1 MiB, so that its chunk grid equals the disk's.
            let place = Int.random(in: 1 << 20..<4 << 20, using: &random)
            changed[place] ^= UInt8.random(in: 1...255, using: &random)
            chunks.insert(place / made.chunkByteCount)
        }
        let target = MemoryDisk(changed)
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let (_, outcome) = try restore(image, onto: target, plan: plan, options: .init(delta: true))
        #expect(outcome.writtenByteCount == UInt64(chunks.count * made.chunkByteCount), "seed \(seed)")
        #expect(target.bytes == made.bytes, "seed \(seed)")
    }

    @Test func aStrangersDiskIsOverwritten() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        var random = SeededGenerator(seed: seed &+ 1)
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let target = MemoryDisk((0..<MadeUpDisk.byteCount).map { _ in UInt8.random(in: 0...255, using: &random) })
        _ = try restore(image, onto: target, plan: plan, options: .init(delta: true))
        let (bytes, expected) = (target.bytes, made.expected(plan, targetByteCount: MadeUpDisk.byteCount))
        let wrong = expected.indices.first { index in expected[index].map { $0 != bytes[index] } ?? false }
        #expect(wrong == nil, "byte \(wrong ?? 0), seed \(seed)")
    }

    @Test func aPipeCanBeRestoredByDifferenceToo() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        _ = try made.capture(to: image)
        let target = MemoryDisk(made.bytes)
        let pipe = try FileDescriptor.pipe()
        let bytes = try Files.read(image, limit: 1 << 30)
        let input = pipe.writeEnd
        let writing = try WorkerThread {
            _ = try? input.writeAll(bytes)
            try? input.close()
        }
        defer { writing.join() }
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let executor = RestoreExecutor(
            plan, target: target, targetPath: nil, options: .init(delta: true), progress: Progress())
        defer { try? pipe.readEnd.close() }
        let outcome = try executor.run(try ImageStreamReader(pipe.readEnd, name: "a pipe"))
        #expect(outcome.writtenByteCount == 0)
        #expect(target.bytes == made.bytes, "seed \(seed)")
    }
}
