// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import LinuxSystem
import NBD
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Imaging
@testable import Repository

/// Captures with random access, in every form that has it.
@Suite struct CaptureDiskTests {
    enum Form: CaseIterable { case plain, encrypted, xz, snapshot, encryptedSnapshot }

    let scratch: ScratchFolder
    let capture: MadeUpDiskCapture
    private static let password = Array("secret".utf8)
    private static let chunk = UInt64(MadeUpDiskCapture.chunkByteCount)

    init() throws {
        scratch = try ScratchFolder()
        var random = SeededGenerator(seed: Sample.seed(of: "CaptureDiskTests"))
        capture = try MadeUpDiskCapture(&random)
    }

    private var image: FilePath { scratch.path.appending("disk.img.zst") }
    private var archive: FilePath { scratch.path.appending("disk.img.xz") }

    private func index(_ form: Form, unreadable: [ByteRange] = []) throws -> any CaptureIndex {
        switch form {
        case .plain, .encrypted:
            let seal = form == .plain ? nil : try ImageSeal(password: Self.password, cost: cheap)
            let output = try ImageOutput(image, overwrite: true)
            try capture.capture(
                into: ImageFileWriter(
                    to: output.descriptor, name: output.name, header: capture.header, seal: seal),
                unreadable: unreadable)
            try output.commit()
            return try IndexedImage(image) { name, keys throws(ImageError) in
                try EncryptedImage.unlock(name, keys, password: Self.password)
            }
        case .xz:
            try capture.capture(
                into: XZImageWriter(archive, overwrite: true, header: capture.header), unreadable: unreadable)
            return try XZImageReader(archive).indexed()
        case .snapshot, .encryptedSnapshot:
            let repository = try repository(isEncrypted: form == .encryptedSnapshot)
            let writer = try repository.writer(
                header: capture.header, host: "host", disk: "disk", tags: [], level: 3)
            let summary = try #require(try capture.capture(into: writer, unreadable: unreadable))
            return try repository.index(try repository.snapshot(summary.id))
        }
    }

    private func repository(isEncrypted: Bool) throws -> Repository {
        try Repository.create(
            in: LocalStore(scratch.path.appending("repo")), chunkByteCount: MadeUpDiskCapture.chunkByteCount,
            keys: isEncrypted ? .random() : nil)
    }

    private func check(_ disk: CaptureDisk, _ range: Range<Int>) throws {
        let range = range.clamped(to: 0..<capture.bytes.count)
        #expect(
            try disk.readBytes(at: UInt64(range.lowerBound), count: range.count) == Array(capture.bytes[range]),
            "\(range)")
    }

    @Test(arguments: Form.allCases) func readsAsItsDisk(form: Form) throws {
        let disk = CaptureDisk(try index(form))
        #expect(disk.byteCount == UInt64(capture.bytes.count))
        try check(disk, 0..<capture.bytes.count)
        for chunk in capture.chunks {
            let edge = Int(chunk.range.lowerBound)
            try check(disk, max(0, edge - 1)..<edge + 2)
        }
        var random = Sample.generator(31)
        for _ in 0..<100 {
            let start = Int.random(in: 0..<capture.bytes.count, using: &random)
            try check(disk, start..<start + Int.random(in: 0...200_000, using: &random))
        }
        #expect(throws: BlockIOError.self) { try disk.readBytes(at: disk.byteCount, count: 1) }
        #expect(try disk.readBytes(at: disk.byteCount, count: 0).isEmpty)
        #expect(disk.failure == nil)
    }

    @Test(arguments: Form.allCases) func extentsAgreeWithTheBytes(form: Form) throws {
        let disk = CaptureDisk(try index(form))
        var random = Sample.generator(32)
        for round in 0..<20 {
            let start = round == 0 ? 0 : UInt64.random(in: 0..<disk.byteCount, using: &random)
            let end = round == 0 ? disk.byteCount : UInt64.random(in: start + 1...disk.byteCount, using: &random)
            var position = start
            while position < end {
                let extents = try disk.extents(in: position..<end)
                try #require(!extents.isEmpty && extents.allSatisfy { $0.byteCount > 0 })
                for extent in extents {
                    let part = capture.bytes[Int(position)..<Int(position + extent.byteCount)]
                    if extent.kind != .data { #expect(part.allSatisfy { $0 == 0 }) }
                    if extent.kind == .unused {
                        #expect(capture.header.used([position..<position + extent.byteCount]).isEmpty)
                    }
                    position += extent.byteCount
                }
            }
            #expect(position == end)
        }
        #expect(disk.decodeCount == 0)
    }

    @Test(arguments: Form.allCases) func aRandomReadDecodesOneChunk(form: Form) throws {
        let disk = CaptureDisk(try index(form), cacheByteCount: 3 << 16)
        let chunks = capture.chunks.filter { $0.kind == .data }
        // Backwards: no chunk follows the one before.
        for (number, chunk) in chunks.reversed().enumerated() {
            let used = try #require(capture.header.used([chunk.range]).first)
            try check(disk, Int(used.lowerBound)..<Int(used.lowerBound) + 1)
            try check(disk, Int(used.upperBound) - 1..<Int(used.upperBound))
            #expect(disk.decodeCount == number + 1)
            #expect(disk.heldByteCount <= 3 << 16)
        }
    }

    @Test func aSequentialReadDecodesEachChunkOnce() throws {
        let index = try index(.plain)
        let disk = CaptureDisk(index)
        let all = capture.chunks.filter { $0.kind == .data }.count
        for start in stride(from: 0, to: capture.bytes.count, by: 10_000) { try check(disk, start..<start + 10_000) }
        // The read-ahead may be at work on a chunk that was read already.
        #expect(disk.decodeCount == all)
    }

    @Test func severalThreadsDecodeAChunkOnce() throws {
        let disk = CaptureDisk(try index(.snapshot))
        let chunk = try #require(capture.chunks.first { $0.kind == .data && $0.region == 1 })
        let used = try #require(capture.header.used([chunk.range]).first)
        let wrong = Monitor(0)
        let expected = Array(capture.bytes[Int(used.lowerBound)..<Int(used.upperBound)])
        let threads = try (0..<8).map { _ in
            try WorkerThread {
                let bytes = try? disk.readBytes(at: used.lowerBound, count: Int(used.byteCount))
                if bytes != expected { wrong.update { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.update { $0 } == 0)
        #expect(disk.decodeCount == 1)
    }

    @Test(arguments: Form.allCases) func whatWasUnreadableIsAnError(form: Form) throws {
        let data = try #require(capture.chunks.first { $0.kind == .data && $0.region == 1 })
        let zero = try #require(capture.chunks.first { $0.kind == .zero })
        let lost = [
            data.range.lowerBound + 512..<data.range.lowerBound + 1024,
            zero.range.lowerBound..<zero.range.lowerBound + 512,
        ]
        let disk = CaptureDisk(try index(form, unreadable: lost))
        for range in lost {
            for place in [range.lowerBound, range.upperBound - 1] {
                #expect(throws: BlockIOError.self) { try disk.readBytes(at: place, count: 1) }
            }
            try check(disk, Int(range.lowerBound) - 100..<Int(range.lowerBound))
            try check(disk, Int(range.upperBound)..<Int(range.upperBound) + 100)
            #expect(throws: BlockIOError.self) { try disk.readBytes(at: range.lowerBound - 1, count: 3000) }
            #expect(try disk.extents(in: range) == [DiskExtent(.data, byteCount: 512)])
        }
    }

    @Test(arguments: [Form.plain, .encrypted, .xz]) func damageIsAnError(form: Form) throws {
        let index = try index(form)
        let chunks = capture.chunks.filter { $0.kind == .data }
        let damaged = chunks[chunks.count / 2]
        let place = try index.content(at: damaged.range.lowerBound)
        let path = form == .xz ? archive : image
        let file = try FileDescriptor.open(path, .readWrite)
        try file.closeAfter {
            let offset = Int64(place.position) + Int64(place.record.storedByteCount / 2)
            var byte: [UInt8] = [0]
            _ = try byte.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: offset, into: $0) }
            _ = try file.writeAll(toAbsoluteOffset: offset, [byte[0] ^ 0x10])
        }
        let disk = CaptureDisk(index)
        let used = try #require(capture.header.used([damaged.range]).first)
        for _ in 0..<2 {
            do {
                _ = try disk.readBytes(at: used.lowerBound, count: 1)
                Issue.record("it was read")
            } catch { #expect((error as BlockIOError).errorNumber == Errno.ioError.rawValue) }
        }
        guard case .damaged = disk.failure else {
            Issue.record("\(String(describing: disk.failure))")
            return
        }
        #expect(try disk.extents(in: used).map(\.kind) == [.data])
        for chunk in chunks where chunk.range != damaged.range {
            try check(disk, Int(chunk.range.lowerBound)..<Int(chunk.range.upperBound))
        }
    }

    @Test func aLostPackIsAnErrorAndNoHole() throws {
        let index = try index(.snapshot)
        let packs = scratch.path.appending("repo")
        // The maps were read when it was opened: lists and chunks are gone.
        for name in try Repository.files(packs).keys where name.contains("pack") {
            try overwrite(packs.appending(name), [1, 2, 3])
        }
        let disk = CaptureDisk(index)
        let chunk = try #require(capture.chunks.first { $0.kind == .data && $0.region == 1 })
        let used = try #require(capture.header.used([chunk.range]).first)
        #expect(throws: BlockIOError.self) { try disk.readBytes(at: used.lowerBound, count: 1) }
        #expect(try disk.extents(in: used).map(\.kind) == [.data])
    }

    @Test func anotherCopyIsRead() throws {
        let repository = try repository(isEncrypted: false)
        // Two captures at a time do not know of each other's chunks, and store them twice.
        let writers = try (0..<2).map { _ in
            try repository.writer(header: capture.header, host: "host", disk: "disk", tags: [], level: 3)
        }
        let ids = try writers.map { try #require(try capture.capture(into: $0)).id }
        let index = try repository.index(try repository.snapshot(ids[0]))
        let data = try #require(capture.chunks.first { $0.kind == .data && $0.region == 1 })
        let place = try index.content(at: data.range.lowerBound)
        #expect(place.otherCopies != nil)
        let used = try #require(capture.header.used([data.range]).first)
        let packs = try Repository.files(repository.path).keys.filter { $0.contains("pack") }
            .map { repository.path.appending($0) }
        for pack in packs {
            let whole = try Files.read(pack, limit: 1 << 30)
            var damaged = whole
            // Both ends stay: the pack can be opened.
            for offset in stride(from: 200, to: max(200, whole.count - 4096), by: 64) { damaged[offset] ^= 0x55 }
            try overwrite(pack, damaged)
            let disk = CaptureDisk(index)
            try check(disk, Int(used.lowerBound)..<Int(used.lowerBound) + 100)
            try overwrite(pack, whole)
        }
    }
}
