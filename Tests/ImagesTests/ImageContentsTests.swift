// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

@Suite struct ImageContentsTests {
    static func archive(_ disk: SampleDisk, in scratch: ScratchFolder) throws -> FilePath {
        let path = scratch.path.appending("disk.img.xz")
        _ = try XZImageTests.write(disk, to: path)
        return path
    }

    @Test(arguments: [512, 100_000, 1 << 20, 9_999_872])
    func aCaptureReadsAsItsDisk(step: Int) throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk(partitionByteCount: 20 << 20)
        let contents = try ImageContents(try XZImageReader(try Self.archive(disk, in: scratch)))
        #expect(contents.byteCount == UInt64(disk.content.count))
        #expect(contents.logicalSectorSize == 512)
        // Small steps: part of the disk suffices.
        let end = step == 512 ? 4 << 20 : disk.content.count
        var position = 0
        while position < end {
            let count = min(step, disk.content.count - position)
            let bytes = try contents.readBytes(at: UInt64(position), count: count)
            #expect(bytes == Array(disk.content[position..<position + count]), "at \(position)")
            position += count
        }
        let ending = try #require(try contents.readToEnd())
        #expect(ending.lateFacts.ended == "2026-01-02T03:05:05Z")
        #expect(throws: BlockIOError.self) { try contents.readBytes(at: contents.byteCount, count: 1) }
    }

    @Test func imagesInTheOwnFormatToo() throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk()
        let path = scratch.path.appending("disk.img.zst")
        let output = try ImageOutput(path, overwrite: false)
        try disk.write(to: try ImageFileWriter(to: output.descriptor, name: output.name, header: disk.header))
        try output.commit()
        let file = try ImageFile.openForStreaming(path.string)
        let contents = try ImageContents(try ImageStreamReader(file.raw, name: path.string))
        #expect(try contents.readBytes(at: 0, count: disk.content.count) == disk.content)
        try contents.readToEnd()
    }

    /// Threads that read chunk after chunk, one of which lags far behind.
    @Test func aThreadMayFallBehind() throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk()
        let contents = try ImageContents(try XZImageReader(try Self.archive(disk, in: scratch)))
        let late = 64 << 10..<128 << 10
        let first = try contents.readBytes(at: 0, count: 64 << 10)
        #expect(first == Array(disk.content[..<(64 << 10)]))
        var position = late.upperBound
        while position < disk.content.count {
            let count = min(64 << 10, disk.content.count - position)
            #expect(
                try contents.readBytes(at: UInt64(position), count: count)
                    == Array(disk.content[position..<position + count]))
            position += count
        }
        #expect(
            try contents.readBytes(at: UInt64(late.lowerBound), count: late.count) == Array(disk.content[late]))
        try contents.readToEnd()
        // Bytes already read give an error, never other bytes.
        #expect(disk.content[..<(64 << 10)].contains { $0 != 0 })
        #expect(throws: BlockIOError.self) { try contents.readBytes(at: 0, count: 4096) }
    }

    @Test func manyThreadsAtOnce() throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk(partitionByteCount: 8 << 20)
        let contents = try ImageContents(try XZImageReader(try Self.archive(disk, in: scratch)))
        let next = Monitor(0)
        let wrong = Monitor<[String]>([])
        let step = 48 << 10
        let threads = try (0..<4).map { _ in
            try WorkerThread {
                while true {
                    let position = next.update { position in
                        defer { position += step }
                        return position
                    }
                    guard position < disk.content.count else { return }
                    let count = min(step, disk.content.count - position)
                    do {
                        let bytes = try contents.readBytes(at: UInt64(position), count: count)
                        if bytes != Array(disk.content[position..<position + count]) {
                            wrong.update { $0.append("at \(position)") }
                        }
                    } catch { wrong.update { $0.append("\(error)") } }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.update { $0 } == [])
        try contents.readToEnd()
    }

    @Test func damageEndsItWithItsCause() throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk()
        let path = try Self.archive(disk, in: scratch)
        var bytes = try Files.read(path)
        bytes[bytes.count / 2] ^= 4
        let descriptor = try OwnedDescriptor.open(path, .writeOnly)
        try descriptor.raw.writeAll(bytes)
        let contents = try ImageContents(try XZImageReader(path))
        #expect(throws: BlockIOError.self) { try contents.readBytes(at: 0, count: disk.content.count) }
        do {
            _ = try contents.readBytes(at: 0, count: 512)
            Issue.record("read on after a failure")
        } catch {
            #expect(error.reason.contains("is damaged at byte"))
        }
        #expect(contents.failure != nil)
        #expect(throws: ImageError.self) { try contents.readToEnd() }
    }

    /// Released early: the decoding thread ends too.
    @Test func nobodyNeedsToReadToTheEnd() throws {
        let scratch = try ScratchFolder()
        let disk = try SampleDisk(partitionByteCount: 40 << 20)
        let path = try Self.archive(disk, in: scratch)
        for count in [0, 1, 1 << 20] {
            let contents = try ImageContents(try XZImageReader(path))
            #expect(try contents.readBytes(at: 0, count: count) == Array(disk.content[..<count]))
        }
    }
}
