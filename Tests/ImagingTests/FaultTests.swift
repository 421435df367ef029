// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Filesystems
import Glibc
import ImageFiles
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

@Suite struct FaultTests {
    private let seed = Sample.seed()

    /// The power is cut after each effect on the target in turn, up to the commit: no prefix has a valid table for
    /// Reforge, libblkid or sfdisk.
    @Test func noPrefixOfARestoreLooksWhole() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        // The target held a disk of the same layout: its tables are valid, and its backup is, too.
        let length = MadeUpDisk.byteCount + (4 << 20)
        let before = try MadeUpDisk(seed: seed &+ 1)
        let old = MemoryDisk(byteCount: length)
        _ = try {
            let other = scratch.path.appending("other")
            _ = try before.capture(to: other)
            return try restore(other, onto: old, plan: try before.plan(targetByteCount: length))
        }()
        let initial = old.bytes
        #expect(try GPTReader.read(MemoryDisk(initial)) != nil)
        let target = MemoryDisk(initial)
        _ = try restore(image, onto: target, plan: try made.plan(targetByteCount: length, policy: .grow))
        let log = target.log
        // The commit: the last write of block 0.
        let commit = try #require(log.lastIndex { if case .write(0, _) = $0 { true } else { false } })
        #expect(commit == log.count - 2, "block 0 is the last write, then a flush")

        var bytes = initial
        var toolSamples = 0
        let disk = scratch.path.appending("prefix")
        for (index, effect) in log[..<commit].enumerated() {
            switch effect {
            case .write(let offset, let data): bytes.replaceSubrange(Int(offset)..<Int(offset) + data.count, with: data)
            case .zeros(let range):
                bytes.replaceSubrange(
                    Int(range.lowerBound)..<Int(range.upperBound), with: repeatElement(0, count: Int(range.byteCount)))
            case .discard, .flush: break
            }
            #expect(try GPTReader.read(MemoryDisk(bytes)) == nil, "prefix of \(index + 1) effects, seed \(seed)")
            // libblkid and sfdisk: after each of the first and last effects, and a sample of those between.
            guard Sample.isFull || index < 6 || index > commit - 6 || index % 16 == 0 else { continue }
            toolSamples += 1
            try Files.write(bytes, to: disk)
            let sfdisk = try ChildProcess.run(["sfdisk", "-d", disk.string])
            #expect(!sfdisk.succeeded, "sfdisk read a table after \(index + 1) effects: \(sfdisk.text)")
            let blkid = try ChildProcess.run(["blkid", "-p", "-o", "export", disk.string])
            #expect(!blkid.text.contains("PTTYPE"), "blkid saw a table after \(index + 1) effects: \(blkid.text)")
        }
        #expect(toolSamples >= 10)
        print("power cut: \(commit) prefixes, \(toolSamples) of them shown to sfdisk and blkid, seed \(seed)")
    }

    /// A target that fails at its k-th effect: the restore reports it, and never a complete disk.
    @Test func aFailingTargetIsNeverCalledComplete() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let plan = try made.plan(targetByteCount: 16 << 20)
        let whole = MemoryDisk(byteCount: 16 << 20)
        _ = try restore(image, onto: whole, plan: plan)
        let effectCount = whole.log.count
        var random = SeededGenerator(seed: seed)
        let cases =
            Sample.isFull
            ? Array(0..<effectCount) : (0..<25).map { _ in Int.random(in: 0..<effectCount, using: &random) }
        for failing in cases + [0, effectCount - 1] {
            let target = MemoryDisk(byteCount: 16 << 20)
            target.fail(after: failing)
            let file = try OwnedDescriptor.open(image, .readOnly)
            let executor = RestoreExecutor(plan, target: target, targetPath: nil, progress: Progress())
            #expect(throws: ImagingError.self, "effect \(failing), seed \(seed)") {
                try executor.run(try ImageStreamReader(file.raw, name: "image"))
            }
            #expect(executor.state == .partial)
        }
    }

    /// One flipped bit anywhere: verification reports it, or it is one of the few bits of a zstd frame that decoders
    /// ignore (padding, an unused flag), proved by a restore of the same bytes.
    @Test func everyFlippedBitIsReportedOrChangesNothing() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: path)
        let bytes = try Files.read(path)
        let length = 16 << 20
        let plan = try made.plan(targetByteCount: length)
        let whole = MemoryDisk(byteCount: length)
        _ = try restore(path, onto: whole, plan: plan)
        var random = SeededGenerator(seed: seed)
        let count = Sample.isFull ? 3000 : 200
        var harmless: [Int] = []
        for _ in 0..<count {
            let position = Int.random(in: 0..<bytes.count, using: &random)
            var damaged = bytes
            damaged[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            let copy = scratch.path.appending("damaged")
            try Files.write(damaged, to: copy)
            let file = try OwnedDescriptor.open(copy, .readOnly)
            do {
                _ = try CaptureVerifier.verify(try ImageStreamReader(file.raw, name: "damaged"), progress: Progress())
            } catch { continue }
            harmless.append(position)
            let target = MemoryDisk(byteCount: length)
            _ = try restore(copy, onto: target, plan: plan)
            #expect(target.bytes == whole.bytes, "byte \(position) changed what is restored, seed \(seed)")
        }
        // Many such bits would mean that a part of the image is not checked.
        #expect(harmless.count <= count / 50, "not reported at bytes \(harmless), seed \(seed)")
        print("flipped bits: \(count), harmless at bytes \(harmless), seed \(seed)")
    }

    @Test func aBadChunkLeavesNoTable() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: path)
        var bytes = try Files.read(path)
        bytes[bytes.count / 2] ^= 0x20
        try Files.write(bytes, to: path)
        let target = MemoryDisk(byteCount: 16 << 20)
        do {
            _ = try restore(path, onto: target, plan: try made.plan(targetByteCount: 16 << 20))
            Issue.record("a damaged image was restored, seed \(seed)")
        } catch let error as ImagingError {
            guard case .image = error else {
                Issue.record("\(error)")
                return
            }
        }
        #expect(target.bytes.prefix(512).allSatisfy { $0 == 0 })
        #expect(try GPTReader.read(target) == nil)
    }

    @Test func aTruncatedImageIsNeverCommitted() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: path)
        let bytes = try Files.read(path)
        var random = SeededGenerator(seed: seed)
        for length in (0..<20).map({ _ in Int.random(in: 0..<bytes.count, using: &random) }) + [bytes.count - 1, 0, 7] {
            try Files.write(Array(bytes[..<length]), to: path)
            let target = MemoryDisk(byteCount: 16 << 20)
            #expect(throws: (any Error).self, "\(length) bytes, seed \(seed)") {
                try restore(path, onto: target, plan: try made.plan(targetByteCount: 16 << 20))
            }
            #expect(try GPTReader.read(target) == nil)
        }
    }

    /// An interrupted restore resumes after the position in its journal.
    @Test func anInterruptedRestoreGoesOn() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let length = 16 << 20
        let plan = try made.plan(targetByteCount: length)
        let target = MemoryDisk(byteCount: length)
        // The result of an interrupted run: data up to a chunk boundary, and a journal with that position.
        let position: UInt64 = 3 << 20
        let whole = MemoryDisk(byteCount: length)
        _ = try restore(image, onto: whole, plan: plan)
        try target.writeBytes(Array(whole.bytes[(1 << 20)..<Int(position)]), at: 1 << 20)
        var journal = RestoreJournal(
            sequence: 6, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: position)
        try journal.write(to: target)
        let (executor, outcome) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(outcome.resumedFrom == position)
        #expect(outcome.writtenByteCount < made.header.manifest.usedByteCount)
        #expect(executor.state == .complete)
        #expect(target.bytes == whole.bytes, "seed \(seed)")
    }

    /// Interrupted between the last chunk and the commit: changes by a growth are overwritten, too.
    @Test func aRestoreStoppedBehindItsDataGoesOn() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let length = 16 << 20
        let plan = try made.plan(targetByteCount: length)
        let whole = MemoryDisk(byteCount: length)
        _ = try restore(image, onto: whole, plan: plan)
        let target = MemoryDisk(byteCount: length)
        try target.writeBytes(Array(whole.bytes[(1 << 20)..<(15 << 20)]), at: 1 << 20)
        let grown = 3 << 20
        try target.writeBytes([UInt8](repeating: 0x6A, count: 512), at: UInt64(grown))
        let end = made.header.manifest.geometry.byteCount
        var journal = RestoreJournal(
            sequence: 6, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: end)
        try journal.write(to: target)
        #expect(try RestoreExecutor.unfinished(on: target, plan)?.isSame == true)
        let (_, outcome) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(outcome.resumedFrom == end)
        let (found, expected) = (target.bytes, made.expected(plan, targetByteCount: length))
        let wrong = expected.indices.first { index in expected[index].map { $0 != found[index] } ?? false }
        #expect(wrong == nil, "seed \(seed)")
    }

    /// The disk changed after the interruption: the data before the journal's position is missing.
    @Test func aJournalIsNotBelieved() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let plan = try made.plan(targetByteCount: 16 << 20)
        let whole = MemoryDisk(byteCount: 16 << 20)
        _ = try restore(image, onto: whole, plan: plan)
        let target = MemoryDisk([UInt8](repeating: 0x5A, count: 16 << 20))
        var journal = RestoreJournal(
            sequence: .max, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: 6 << 20)
        try journal.write(to: target)
        _ = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        let (found, expected) = (target.bytes, made.expected(plan, targetByteCount: 16 << 20))
        let wrong = expected.indices.first { index in expected[index].map { $0 != found[index] } ?? false }
        #expect(wrong == nil, "seed \(seed)")
    }

    /// The digest of a plan does not depend on the disk's path and sequence number, but on its serial number.
    @Test func aPlanIsTheSameForAnotherName() throws {
        let made = try MadeUpDisk(seed: seed)
        let plan = try made.plan(targetByteCount: 16 << 20)
        var other = plan
        other.target.path = "./target"
        other.target.diskSequence = 7
        #expect(try other.digest() == plan.digest())
        other.target.serial = "X"
        #expect(try other.digest() != plan.digest())
    }

    /// Old signatures at the ends of the target are cleared: md 0.90 is 64 KiB before the end, 1.2 at 4 KiB.
    @Test(arguments: [true, false]) func staleSignaturesAtTheEndsAreGone(sameSize: Bool) throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let length = sameSize ? MadeUpDisk.byteCount : 16 << 20
        let target = MemoryDisk([UInt8](repeating: 0x5A, count: length))
        let plan = try made.plan(targetByteCount: length)
        target.fail(after: 12)
        _ = try? restore(image, onto: target, plan: plan)
        #expect(target.bytes[..<(64 << 10)].allSatisfy { $0 == 0 }, "the front is blank before the commit")
        let again = MemoryDisk(target.bytes)
        _ = try restore(image, onto: again, plan: plan)
        let end = try #require(plan.placements?.map(\.to.upperBound).max())
        let place = max(Int(end), length - (1 << 20))
        // Up to the backup table, whose GUIDs may hold any byte.
        let isStale = again.bytes[place..<length - 33 * 512].contains(0x5A)
        #expect(!isStale, "something stale is left at the end, seed \(seed)")
    }

    @Test func aJournalOfAnotherPlanIsNotFollowed() throws {
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        let made = try MadeUpDisk(seed: seed)
        _ = try made.capture(to: image)
        let plan = try made.plan(targetByteCount: 16 << 20)
        let target = MemoryDisk(byteCount: 16 << 20)
        var journal = RestoreJournal(
            sequence: 1, imageUUID: plan.imageUUID, planDigest: ContentHash(of: [1]), position: 8 << 20)
        try journal.write(to: target)
        let (_, outcome) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(outcome.resumedFrom == nil)
    }

    @Test func aTornJournalSlotLeavesTheOther() throws {
        let target = MemoryDisk(byteCount: 2 << 20)
        var journal = RestoreJournal(
            sequence: 0, imageUUID: .random(), planDigest: ContentHash(of: []), position: 1)
        try journal.write(to: target)
        journal.position = 2
        try journal.write(to: target)
        #expect(RestoreJournal.read(target) == journal)
        try target.writeBytes([0xAA], at: RestoreJournal.slotOffsets[Int(journal.sequence % 2)] + 20)
        #expect(RestoreJournal.read(target)?.position == 1)
    }

    @Test func aReadErrorEndsTheCaptureWithItsPlace() throws {
        let scratch = try ScratchFolder()
        let made = try MadeUpDisk(seed: seed, allUsed: true)
        let source = MemoryDisk(made.bytes)
        source.makeUnreadable(5_000_000..<5_000_512)
        do {
            _ = try made.capture(to: scratch.path.appending("image"), source: source)
            Issue.record("an unreadable disk was captured")
        } catch let error as ImagingError {
            guard case .block(let error) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(error.operation == .read && error.offset <= 5_000_000)
        }
        // No file is left, under any name.
        #expect(Files.names(in: scratch.path).isEmpty)
    }

    /// A full disk: every write to /dev/full fails.
    @Test func aFullDiskEndsTheCapture() throws {
        let made = try MadeUpDisk(seed: seed)
        let full = try OwnedDescriptor.open("/dev/full", .writeOnly)
        do {
            _ = try ImageFileWriter(to: full.raw, name: "/dev/full", header: made.header)
            Issue.record("a full disk took an image")
        } catch let error as SystemCallError {
            #expect(error.errno == .noSpace)
        }
    }
}
