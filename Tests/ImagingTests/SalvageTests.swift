// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Damaged images and repositories: without salvage the first damage ends a restore; with salvage the rest is restored,
/// and lost ranges are zeros.
@Suite struct SalvageTests {
    private let seed = Sample.seed()
    private static let password = Array("correct horse".utf8)

    /// The source of an image.
    enum Source: CaseIterable {
        case file, pipe
    }

    /// An image of a made-up disk, and the offsets of its chunks.
    private struct DamagedImage {
        let scratch: ScratchFolder
        let path: FilePath
        let made: MadeUpDisk
        let isEncrypted: Bool
        /// The data records, and the offsets of their stored chunks in the file.
        var chunks: [(record: ChunkRecord, offset: UInt64)] = []

        init(seed: UInt64, isEncrypted: Bool = false) throws {
            scratch = try ScratchFolder()
            path = scratch.path.appending("image")
            made = try MadeUpDisk(seed: seed)
            self.isEncrypted = isEncrypted
            let output = try ImageOutput(path, overwrite: true)
            let seal =
                isEncrypted
                ? try ImageSeal(
                    password: SalvageTests.password, cost: PasswordCost(rounds: 16, blockSize: 8, parallelism: 1)) : nil
            let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: made.header, seal: seal)
            _ = try CaptureExecutor(
                source: MemoryDisk(made.bytes), plan: CapturePlan(header: made.header, patches: [:]),
                progress: Progress(), workers: 2
            ).run(writer)
            try output.commit()
            var found: [(ChunkRecord, UInt64)] = []
            try reading(.file) { reader in
                while let record = try reader.nextRecord() {
                    if record.kind == .data { found.append((record, reader.position)) }
                }
            }
            chunks = found
        }

        private func unlock(_ name: String, _ keys: [WrappedKey]) throws(ImageError) -> MasterKeys {
            try EncryptedImage.unlock(name, keys, password: SalvageTests.password)
        }

        func reading<Value>(_ source: Source, _ body: (ImageStreamReader) throws -> Value) throws -> Value {
            switch source {
            case .file:
                let file = try OwnedDescriptor.open(path, .readOnly)
                let reader = try ImageStreamReader(file.raw, name: "image", unlock: unlock)
                if let image = try? ImageFile(path, unlock: unlock) { reader.useIndex(of: image) }
                return try body(reader)
            case .pipe:
                // The reader may stop early.
                Signal.ignoreBrokenPipes()
                let (input, end) = try FileDescriptor.pipe(options: .closeOnExec)
                let bytes = try Files.read(path, limit: 1 << 30)
                let thread = try WorkerThread {
                    _ = try? end.writeAll(bytes)
                    try? end.close()
                }
                defer { thread.join() }
                defer { try? input.close() }
                return try body(try ImageStreamReader(input, name: "a pipe", unlock: unlock))
            }
        }

        /// Flips bits.
        func damage(at offset: UInt64, _ path: FilePath? = nil) throws {
            let path = path ?? self.path
            var bytes = try Files.read(path, limit: 1 << 30)
            bytes[Int(offset)] ^= 0x40
            let file = try OwnedDescriptor.open(path, .writeOnly, options: [.truncate])
            _ = try file.raw.writeAll(bytes)
        }

        /// Truncates the file.
        func cut(to byteCount: UInt64) throws {
            let bytes = try Files.read(path, limit: 1 << 30).prefix(Int(byteCount))
            let file = try OwnedDescriptor.open(path, .writeOnly, options: [.truncate])
            _ = try file.raw.writeAll(Array(bytes))
        }
    }

    /// A target without zeros.
    private func patterned() -> MemoryDisk {
        MemoryDisk((0..<MadeUpDisk.byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) })
    }

    /// Restores with salvage, and compares every used byte.
    private func check(
        _ reader: any ImageReader, _ made: MadeUpDisk, lost expected: [ByteRange]?, isWhole: Bool = false,
        salvage: Salvage = Salvage(), onto target: MemoryDisk? = nil,
        options: RestoreExecutor.Options = .init(verify: true)
    ) throws {
        let target = target ?? patterned()
        let plan = try made.plan(targetByteCount: MadeUpDisk.byteCount)
        let executor = RestoreExecutor(plan, target: target, targetPath: nil, options: options, progress: Progress())
        let outcome = try executor.run(SalvageReader(reader, salvage))
        #expect(executor.state == (isWhole ? .complete : .salvaged), "seed \(seed)")
        let lost = salvage.losses.map(\.range)
        let used = made.header.used(lost)
        if let expected { #expect(used == made.header.used(expected), "seed \(seed)") }
        #expect(
            outcome.lost.compactMap(\.target).reduce(0) { $0 + $1.byteCount } == used.reduce(0) { $0 + $1.byteCount })
        let map = AllocationMap(byteCount: UInt64(MadeUpDisk.byteCount), unsorted: used)
        let kept = map.complement
        let bytes = target.bytes
        // The target has the same layout.
        for (index, region) in made.header.manifest.regions.enumerated() where region.kind == .partition {
            for range in made.header.maps[index].ranges.compactMap({ $0.shifted(up: region.range.lowerBound) }) {
                for part in kept.ranges(in: range).map({ Int($0.lowerBound)..<Int($0.upperBound) }) {
                    #expect(bytes[part] == made.bytes[part], "bytes \(part), seed \(seed)")
                }
                for part in map.ranges(in: range).map({ Int($0.lowerBound)..<Int($0.upperBound) }) {
                    #expect(bytes[part].allSatisfy { $0 == 0 }, "bytes \(part) are lost, seed \(seed)")
                }
            }
        }
    }

    /// Without `--salvage`, damage ends the restore, and the target does not boot.
    private func checkRefused(_ reader: any ImageReader, _ made: MadeUpDisk) throws {
        let target = patterned()
        let executor = RestoreExecutor(
            try made.plan(targetByteCount: MadeUpDisk.byteCount), target: target, targetPath: nil, progress: Progress())
        do {
            _ = try executor.run(reader)
            Issue.record("a damaged image was restored, seed \(seed)")
        } catch {
            guard case .image = error else { throw error }
        }
        #expect(executor.state == .partial && target.bytes[..<512].allSatisfy { $0 == 0 })
    }

    private func survey(_ reader: any ImageReader) throws -> Salvage {
        try CaptureVerifier.losses(of: reader, progress: Progress())
    }

    @Test(arguments: [false, true], Source.allCases)
    func oneBadByteCostsItsChunk(isEncrypted: Bool, source: Source) throws {
        let sample = try DamagedImage(seed: seed, isEncrypted: isEncrypted)
        #expect(try sample.reading(source) { try survey($0).isWhole })
        let chunk = sample.chunks[sample.chunks.count / 2]
        try sample.damage(at: chunk.offset + UInt64(chunk.record.storedByteCount) / 2)
        let found = try sample.reading(source) { try survey($0).losses }
        #expect(found == [.init(range: chunk.record.range, hash: chunk.record.hash)])
        try sample.reading(source) { try check($0, sample.made, lost: [chunk.record.range]) }
        try sample.reading(source) { try checkRefused($0, sample.made) }
    }

    /// The index replaces damaged records of a file. From a pipe, the chunk is lost, or, when encrypted, everything
    /// from it on.
    @Test(arguments: [false, true]) func aDamagedRecordIsTakenFromTheIndex(isEncrypted: Bool) throws {
        let sample = try DamagedImage(seed: seed, isEncrypted: isEncrypted)
        let chunk = sample.chunks[sample.chunks.count / 2]
        // The last byte of the record, and in another one the first of its frame.
        try sample.damage(at: chunk.offset - 1)
        let other = sample.chunks[sample.chunks.count / 3]
        let recordByteCount = isEncrypted ? 4 + 64 + 40 : UInt64(ImageFormat.recordFrameByteCount)
        try sample.damage(at: other.offset - (isEncrypted ? 1 : recordByteCount))
        try sample.reading(.file) { try check($0, sample.made, lost: []) }
        try sample.reading(.file) { try checkRefused($0, sample.made) }
        let behind = (isEncrypted ? other.record.range.lowerBound : 0)..<UInt64(MadeUpDisk.byteCount)
        try sample.reading(.pipe) {
            try check($0, sample.made, lost: isEncrypted ? [behind] : [chunk.record.range])
        }
    }

    @Test(arguments: [false, true], Source.allCases)
    func whatIsBehindTheCutIsLost(isEncrypted: Bool, source: Source) throws {
        let sample = try DamagedImage(seed: seed, isEncrypted: isEncrypted)
        let chunk = sample.chunks[sample.chunks.count * 2 / 3]
        try sample.cut(to: chunk.offset + UInt64(chunk.record.storedByteCount) / 2)
        let behind = chunk.record.range.lowerBound..<UInt64(MadeUpDisk.byteCount)
        try sample.reading(source) { try check($0, sample.made, lost: [behind]) }
        try sample.reading(source) { try checkRefused($0, sample.made) }
    }

    /// With a damaged end, all data is restored; only the facts stored there are lost.
    @Test(arguments: Source.allCases) func aMissingEndCostsNoData(source: Source) throws {
        let sample = try DamagedImage(seed: seed)
        let byteCount = UInt64(try Files.read(sample.path, limit: 1 << 30).count)
        try sample.cut(to: byteCount - 1)
        try sample.reading(source) { try check($0, sample.made, lost: []) }
    }

    @Test func archivesOfXZ() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        var made = try MadeUpDisk(seed: seed)
        made.header.manifest.level = 1
        let writer = try XZImageWriter(path, overwrite: false, header: made.header)
        _ = try CaptureExecutor(
            source: MemoryDisk(made.bytes), plan: CapturePlan(header: made.header, patches: [:]), progress: Progress()
        ).run(writer)
        let whole = try XZImageReader(path)
        var chunks: [(record: ChunkRecord, offset: UInt64)] = []
        while let record = try whole.nextRecord() {
            if record.kind == .data { chunks.append((record, whole.position)) }
        }
        var bytes = try Files.read(path, limit: 1 << 30)
        func write() throws {
            let file = try OwnedDescriptor.open(path, .writeOnly, options: [.truncate])
            _ = try file.raw.writeAll(bytes)
        }
        let one = chunks[chunks.count / 3]
        bytes[Int(one.offset) + one.record.storedByteCount / 2] ^= 1
        try write()
        try check(try XZImageReader(path, salvages: true), made, lost: [one.record.range])
        try checkRefused(try XZImageReader(path), made)
        let two = chunks[chunks.count * 2 / 3]
        bytes.removeLast(bytes.count - Int(two.offset) - two.record.storedByteCount / 2)
        try write()
        #expect(throws: ImageError.self) { try XZImageReader(path) }
        // Runs of zeros after the cut are known.
        let behind = chunks.map(\.record.range).filter { $0.lowerBound >= two.record.range.lowerBound }
        try check(try XZImageReader(path, salvages: true), made, lost: [one.record.range] + behind)
    }

    /// A snapshot whose contents are stored once or twice.
    @Test(arguments: [1, 2]) func repositories(copies: Int) throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("repository")
        let made = try MadeUpDisk(seed: seed)
        let repository = try Repository.create(in: LocalStore(path), chunkByteCount: made.chunkByteCount, keys: nil)
        let writers = try (0..<copies).map { _ in
            try repository.writer(header: made.header, host: "host", disk: "disk", tags: [], level: 3)
        }
        var id: ContentHash?
        for writer in writers {
            id =
                try CaptureExecutor(
                    source: MemoryDisk(made.bytes), plan: CapturePlan(header: made.header, patches: [:]),
                    progress: Progress()
                ).run(writer).summary.id
        }
        let snapshot = try #require(id)
        func reader() throws -> SnapshotReader {
            let repository = try Repository.open(LocalStore(path), keys: nil)
            return try repository.reader(try repository.snapshot(snapshot))
        }
        #expect(try survey(try reader()).isWhole)
        // The largest pack holds data.
        let packs = try ChildProcess.run(["find", path.appending("packs").string, "-type", "f", "-printf", "%s %p\n"])
        let sizes = packs.text.split(separator: "\n").map { $0.split(separator: " ", maxSplits: 1) }
        let pack = FilePath(
            String(try #require(sizes.max { (Int($0[0]) ?? 0) < (Int($1[0]) ?? 0) })[1]))
        var bytes = try Files.read(pack, limit: 1 << 30)
        bytes[bytes.count / 2] ^= 1
        do {
            let file = try OwnedDescriptor.open(pack, .writeOnly, options: [.truncate])
            _ = try file.raw.writeAll(bytes)
        }
        let losses = try survey(try reader()).losses
        #expect(losses.count == (copies == 1 ? 1 : 0), "seed \(seed)")
        try check(try reader(), made, lost: losses.map(\.range), isWhole: copies == 2)
        if copies == 1 { try checkRefused(try reader(), made) }
        // A missing pack: with the only one, the maps are lost, too.
        try Files.remove(pack)
        if copies == 1 {
            #expect(throws: ImageError.self) { try reader() }
        } else {
            #expect(try survey(try reader()).isWhole)
            try check(try reader(), made, lost: [], isWhole: true)
        }
    }

    /// Damage that appears after the survey ends the restore and does not become zeros.
    @Test func onlyWhatWasFoundMayBeLost() throws {
        let sample = try DamagedImage(seed: seed)
        let first = sample.chunks[sample.chunks.count / 3]
        let second = sample.chunks[sample.chunks.count / 2]
        try sample.damage(at: first.offset + 9)
        let found = try sample.reading(.file) { try survey($0) }
        func allowed() -> Salvage { Salvage(only: found, byteCount: UInt64(MadeUpDisk.byteCount)) }
        try sample.reading(.file) {
            try check($0, sample.made, lost: [first.record.range], salvage: allowed())
        }
        try sample.damage(at: second.offset + 9)
        try sample.reading(.file) { try checkRefused(SalvageReader($0, allowed()), sample.made) }
    }

    /// A target that still has the lost chunk keeps it, checked by the hash in its record.
    @Test func aDeltaFindsWhatTheImageLost() throws {
        let sample = try DamagedImage(seed: seed)
        let chunk = sample.chunks[sample.chunks.count / 2]
        try sample.damage(at: chunk.offset + 9)
        try sample.reading(.file) {
            try check(
                $0, sample.made, lost: [], isWhole: true, onto: MemoryDisk(sample.made.bytes),
                options: .init(verify: true, delta: true))
        }
        // A target with other contents gets zeros.
        try sample.reading(.file) {
            try check($0, sample.made, lost: [chunk.record.range], options: .init(verify: true, delta: true))
        }
    }

    @Test func anInterruptedSalvageGoesOn() throws {
        let sample = try DamagedImage(seed: seed)
        let chunk = sample.chunks[2]
        try sample.damage(at: chunk.offset + 9)
        for count in [10, 30, 60] {
            let target = patterned()
            target.fail(after: count)
            #expect(throws: ImagingError.self) {
                try sample.reading(.file) {
                    _ = try RestoreExecutor(
                        try sample.made.plan(targetByteCount: MadeUpDisk.byteCount), target: target, targetPath: nil,
                        progress: Progress()
                    ).run(SalvageReader($0, Salvage()))
                }
            }
            target.fail(after: .max)
            try sample.reading(.file) {
                try check($0, sample.made, lost: [chunk.record.range], onto: target)
            }
        }
    }

    /// A copy with salvage is a whole image, which lists its missing ranges.
    @Test func aCopyRecordsWhatIsLost() throws {
        let sample = try DamagedImage(seed: seed)
        let chunk = sample.chunks[sample.chunks.count / 2]
        try sample.damage(at: chunk.offset + 9)
        let copy = sample.scratch.path.appending("copy")
        let salvage = Salvage()
        var header = sample.made.header
        header.manifest.incompatibleFeatures = [Manifest.unreadableFeature]
        try sample.reading(.file) { reader in
            let contents = try ImageContents(SalvageReader(reader, salvage))
            let output = try ImageOutput(copy, overwrite: true)
            let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: header)
            _ = try CaptureExecutor(source: contents, plan: CapturePlan(header: header), progress: Progress()).run(
                writer, beforeEnd: { try contents.readToEnd() },
                facts: {
                    LateFacts(ended: "", unreadable: header.used(salvage.losses.map(\.range)))
                })
            try output.commit()
        }
        #expect(salvage.losses.map(\.range) == [chunk.record.range])
        let target = patterned()
        let (executor, outcome) = try restore(
            copy, onto: target, plan: try sample.made.plan(targetByteCount: MadeUpDisk.byteCount))
        #expect(executor.state == .complete)
        #expect(outcome.warnings.contains { $0.contains("has holes") }, "seed \(seed)")
    }

    @Test func toolsNameFiles() {
        let icheck = "Block\tInode number\n12289\t14\n40\t7\n5000\t<block not found>\n"
        #expect(LostFileLookup.inodes(icheck).owned == [14, 7] && LostFileLookup.inodes(icheck).unowned == 1)
        #expect(LostFileLookup.names("Inode\tPathname\n12\t//dir\n13\t/dir/a b\n") == ["/dir", "/dir/a b"])
        let clusters =
            "Searching for cluster range 0-9\nInode 0 /$MFT/$DATA\nInode 65 /dir/a b/$DATA\n* 2 inodes found\n"
        #expect(LostFileLookup.ntfsNames(clusters) == ["/$MFT", "/dir/a b"])
        let blocks =
            "block 23 (0/23) type inode\nblock 24 (0/24) type data inode 132 dir/a b\nblock 25 (0/25) type data inode 132 dir/a b\n"
        #expect(LostFileLookup.xfsNames(blocks).names == ["/dir/a b"] && LostFileLookup.xfsNames(blocks).unowned == 1)
        let lost = LostBlocks([0..<100, 4096..<8193, 40_960..<45_056], blockByteCount: 4096, limit: 3)
        #expect(lost.ranges == [0..<3] && lost.isCut)
    }
}
