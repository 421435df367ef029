// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import FilesystemResize

/// A tool whose programs fail on demand. Its filesystem is 16 bytes: a magic number and the length.
private struct FakeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = []
    let package = "fake-progs"
    let programs = ["true"]
    let checkCommand = "fsck.fake"
    /// The superblock's length after its work; `nil` leaves it unchanged.
    var writes: UInt64?
    var failure: ResizeError?
    var isWhole = false
    /// Whether it starts a program that may write.
    var begins = true

    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 0, count: 16))
        return fields.has("FAKEFAKE".utf8, at: 0) ? fields.little(8, byteCount: 8) : nil
    }
    func grow(_ job: ResizeJob) throws(ResizeError) {
        if let writes { write(writes, job.node) }
        job.begun.isTrue = begins
        if let failure { throw failure }
    }
    func isWhole(_ job: ResizeJob) -> Bool { isWhole }

    func write(_ byteCount: UInt64, _ path: String) {
        let bytes = (0..<8).map { UInt8(truncatingIfNeeded: byteCount >> (8 * $0)) }
        let disk = try? BlockDevice(opening: FilePath(path), .exclusiveWrite)
        try? disk?.writeBytes(Array("FAKEFAKE".utf8) + bytes, at: 0)
        try? disk?.flush()
    }
}

/// The messages and the release of resources when a tool fails in the middle.
@Suite(.enabled(if: Ability.loopDevices, "needs root and loop devices"), .serialized)
struct FailureTests {
    static let doubt = ResizeError.State.inDoubt(check: "fsck.fake")

    private static func state(
        after tool: FakeTool, atMost limit: UInt64? = nil
    ) throws -> (ResizeError.State?, FilesystemResizer.Outcome?) {
        let folder = try ScratchFolder()
        let image = folder.path.appending("image")
        try Files.write([UInt8](repeating: 0, count: 1 << 20), to: image)
        FakeTool().write(1000, image.string)
        let place = ResizePlace.part(of: image, range: 0..<1 << 20, sectorSize: 512)
        defer { #expect((try? ResizeBench.leftovers(of: image)) == []) }
        let info = FilesystemInfo(kind: .other, kindName: "fake", mapSource: .allocationStructures)
        do throws(ResizeError) {
            let outcome = try FilesystemResizer.resize(info, by: tool, on: place, atMost: limit, { _ in }) {
                tool, job, before throws(ResizeError) in
                #expect(before == 1000)
                try tool.grow(job)
            }
            return (nil, outcome)
        } catch {
            return (error.state, nil)
        }
    }

    @Test func theStateIsWhatTheCheckSays() throws {
        let failure = ResizeError(
            .resizeFailed(tool: "resize.fake", ending: "exit status 1", lastWords: ""), state: Self.doubt)
        #expect(try Self.state(after: FakeTool(failure: failure)).0 == Self.doubt)
        #expect(try Self.state(after: FakeTool(failure: failure, isWhole: true)).0 == .asBefore)
        #expect(
            try Self.state(after: FakeTool(writes: 2000, failure: failure, isWhole: true)).0 == .whole(byteCount: 2000))
        #expect(try Self.state(after: FakeTool(writes: 2000, failure: failure)).0 == Self.doubt)
        // A failure before the first write keeps its state; the same claim during writes is not believed.
        let early = ResizeError(.checkFailed(tool: "fsck.fake", ending: "exit status 4", lastWords: ""))
        #expect(try Self.state(after: FakeTool(failure: early, begins: false)).0 == .asBefore)
        #expect(try Self.state(after: FakeTool(failure: early)).0 == Self.doubt)
    }

    @Test func aToolIsNotTakenAtItsWord() throws {
        // Longer than its place, or than requested.
        #expect(try Self.state(after: FakeTool(writes: 1 << 21, isWhole: true)).0 == Self.doubt)
        #expect(try Self.state(after: FakeTool(writes: 600, isWhole: true), atMost: 500).0 == Self.doubt)
        #expect(try Self.state(after: FakeTool(writes: 500, isWhole: true), atMost: 500).1?.byteCount == 500)
        #expect(try Self.state(after: FakeTool(writes: 1 << 20, isWhole: true)).1?.byteCount == 1 << 20)
        // Its check finds damage, although it reported success.
        #expect(try Self.state(after: FakeTool(writes: 1 << 20)).0 == Self.doubt)
    }
}
