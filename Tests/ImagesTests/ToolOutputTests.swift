// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles

/// An output that another program writes.
@Suite struct ToolOutputTests {
    private let scratch: ScratchFolder
    private var path: FilePath { scratch.path.appending("disk.qcow2") }
    init() throws { scratch = try ScratchFolder() }

    private var names: [String] { Files.names(in: scratch.path) }

    @Test func itIsBesideItsNameUntilItIsCommitted() throws {
        let output = try ToolOutput(path, overwrite: false)
        #expect(names.count == 1 && names[0].hasPrefix(".disk.qcow2.partial-"))
        #expect(output.path.isAbsolute && output.path.removingLastComponent() == Files.realPath(scratch.path))
        try Files.write([1, 2], to: output.path.removingLastComponent().appending("other"))
        let writer = try OwnedDescriptor.open(output.path, .writeOnly)
        _ = try writer.raw.writeAll([1, 2, 3])
        #expect(!output.isPublished)
        try output.commit()
        #expect(output.isPublished && names == ["disk.qcow2", "other"])
        #expect(try Files.read(path) == [1, 2, 3])
    }

    @Test func itVanishesUnlessItIsCommitted() throws {
        do {
            let output = try ToolOutput(path, overwrite: false)
            #expect(names.count == 1)
            withExtendedLifetime(output) {}
        }
        #expect(names.isEmpty)
    }

    @Test func aFileThatAppearedMeanwhileStays() throws {
        let output = try ToolOutput(path, overwrite: false)
        try Files.write([7], to: path)
        let error = #expect(throws: SystemCallError.self) { try output.commit() }
        #expect(error?.errno == .fileExists && !output.isPublished)
        #expect(try Files.read(path) == [7])
        let replacing = try ToolOutput(path, overwrite: true)
        try replacing.commit()
        #expect(try Files.read(path) == [])
    }

    /// QEMU locks single bytes: while it writes, its locks must be granted.
    @Test func theProgramThatWritesItCanLockIt() throws {
        let output = try ToolOutput(path, overwrite: false)
        let writer = try OwnedDescriptor.open(output.path, .readWrite)
        #expect(try FileLock.take(writer.raw, forWriting: true, start: 100, byteCount: 4) == .granted)
        let error = #expect(throws: SystemCallError.self) { try output.commit(patience: 0.1) }
        #expect(error?.errno == .resourceBusy && !Files.exists(path))
        try writer.close()
    }

    /// As a forked child has it for a moment, until it is another program.
    @Test func aLockThatEndsIsWaitedFor() throws {
        let output = try ToolOutput(path, overwrite: false)
        let writer = try OwnedDescriptor.open(output.path, .readWrite)
        let descriptor = writer.release()
        #expect(try FileLock.take(descriptor, forWriting: true, start: 100, byteCount: 4) == .granted)
        let release = try WorkerThread {
            SystemFacts.sleep(seconds: 0.3)
            try? descriptor.close()
        }
        try output.commit()
        release.join()
        #expect(output.isPublished)
    }

    @Test func anotherFileUnderItsTemporaryNameIsNotPublished() throws {
        let output = try ToolOutput(path, overwrite: false)
        try Files.remove(output.path)
        try Files.write([9], to: output.path)
        #expect(throws: SystemCallError.self) { try output.commit() }
        #expect(!Files.exists(path))
    }

    @Test func aMissingFolderIsSaid() throws {
        let error = #expect(throws: SystemCallError.self) {
            _ = try ToolOutput(scratch.path.appending("none/disk.qcow2"), overwrite: false)
        }
        #expect(error?.errno == .noSuchFileOrDirectory)
    }
}
