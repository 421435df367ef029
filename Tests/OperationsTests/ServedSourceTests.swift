// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import NBD
import ObjectStore
import Repository
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// What can be opened for random access, and served.
@Suite struct ServedSourceTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    /// 6 MiB: random bytes, and a hole of 3 MiB.
    private let bytes: [UInt8]

    init() throws {
        scratch = try ScratchFolder()
        var random = SeededGenerator(seed: 12)
        bytes =
            (0..<2 << 20).map { _ in UInt8(truncatingIfNeeded: random.next()) & 0x3F }
            + [UInt8](repeating: 0, count: 3 << 20) + (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 >> 7) | 1 }
        let file = try FileDescriptor.open(
            scratch.path.appending("disk.img"), .writeOnly, options: [.create], permissions: .ownerReadWrite)
        try file.closeAfter {
            _ = try file.writeAll(toAbsoluteOffset: 0, bytes[..<(2 << 20)])
            _ = try file.writeAll(toAbsoluteOffset: 5 << 20, bytes[(5 << 20)...])
        }
    }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private func keys(_ password: String? = nil, _ cancellation: Cancellation = Cancellation()) -> KeyRing {
        KeyRing(FixedPassword(bytes: password.map { Array($0.utf8) }), events, cancellation)
    }

    private func capture(to image: String, password: String? = nil) throws {
        var job = CaptureJob(disk: path("disk.img"), image: image)
        job.encrypts = image.hasSuffix(".enc")
        job.chunkByteCount = image.hasSuffix("@") ? nil : 64 << 10
        _ = try CaptureOperation(job, keys: keys(password), events: events, toolVersion: "0").run()
    }

    private func check(_ text: String, password: String? = nil) throws -> ServedSource {
        let source = try ServedSource.open(text, keys(password))
        #expect(source.disk.byteCount == UInt64(bytes.count))
        #expect(source.header.manifest.geometry.byteCount == UInt64(bytes.count))
        #expect(try source.disk.readBytes(at: 0, count: bytes.count) == bytes)
        #expect(try source.disk.readBytes(at: 2_097_000, count: 500) == Array(bytes[2_097_000..<2_097_500]))
        var position: UInt64 = 0
        var holeByteCount: UInt64 = 0
        while position < source.disk.byteCount {
            for extent in try source.disk.extents(in: position..<source.disk.byteCount) {
                let part = bytes[Int(position)..<Int(position + extent.byteCount)]
                if extent.kind != .data {
                    #expect(part.allSatisfy { $0 == 0 })
                    holeByteCount += extent.byteCount
                }
                position += extent.byteCount
            }
        }
        #expect(holeByteCount >= 2 << 20, "\(text)")
        #expect(source.damage == nil)
        try source.checkHeldStill()
        return source
    }

    @Test func everyKindReadsTheSame() throws {
        let raw = try check(path("disk.img"))
        #expect(raw.imageID == nil && raw.exactText == path("disk.img"))
        try capture(to: path("a.img.zst"))
        #expect(try check(path("a.img.zst")).imageID != nil)
        try capture(to: path("b.img.enc"), password: "secret")
        _ = try check(path("b.img.enc"), password: "secret")
        #expect(throws: (any Error).self) { try ServedSource.open(path("b.img.enc"), keys("wrong")) }
        _ = try Repository.create(in: LocalStore(FilePath(path("repo"))), chunkByteCount: 64 << 10, keys: nil)
        try capture(to: path("repo@"))
        let snapshot = try check("\(path("repo"))@latest")
        let id = try #require(snapshot.imageID)
        #expect(snapshot.exactText == "\(path("repo"))@\(id)")
        // A foreign compressed disk is decompressed beside it.
        let packed = try ChildProcess.run(["zstd", "-q", "-1", path("disk.img"), "-o", path("foreign.img.zst")])
        try #require(packed.succeeded)
        _ = try check(path("foreign.img.zst"))
    }

    @Test func whatHasNoRandomAccessIsRefused() throws {
        try #require(mkfifo(path("pipe.img"), 0o600) == 0)
        for text in ["-", path("pipe.img")] {
            do {
                _ = try ServedSource.open(text, keys())
                Issue.record("\(text) was opened")
            } catch let failure as JobFailure {
                #expect(failure.status == .usage && failure.message.contains("random access"))
            }
        }
        #expect(throws: SystemCallError.self) { try ServedSource.open(path("missing.img"), keys()) }
        try Files.write([1, 2, 3], to: scratch.path.appending("text"))
        #expect(throws: ImageError.self) { try ServedSource.open(path("text"), keys()) }
    }

    @Test func servesUntilItIsInterrupted() throws {
        try capture(to: path("a.img.zst"))
        let cancellation = Cancellation()
        var job = ServeJob(source: path("a.img.zst"))
        job.place = .socket(path("socket"))
        var report: ServeReport?
        let status = try ServeOperation(job, keys: keys(nil, cancellation), events: events).run { started in
            report = started
            let client = try NBDClient(socket: FilePath(path("socket")), export: "", name: "client")
            #expect(try client.readBytes(at: 0, count: bytes.count) == bytes)
            #expect(client.byteCount == started.byteCount)
            cancellation.request(SIGINT)
        }
        #expect(status == .done)
        #expect(report?.uri == "nbd+unix:///?socket=\(path("socket"))" && report?.imageID != nil)
        #expect(!Files.exists(scratch.path.appending("socket")))
        #expect(events.reports.last?.outcome.status == .done)
    }

    @Test func anUnneededPasswordIsRefused() throws {
        try capture(to: path("a.img.zst"))
        let job = ServeJob(source: path("a.img.zst"))
        #expect(throws: JobFailure.self) {
            _ = try ServeOperation(job, keys: keys("secret"), events: events).run { _ in Issue.record("it serves") }
        }
    }
}
