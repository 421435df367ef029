// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

@Suite struct ClaimTests {
    private let scratch: ScratchFolder
    private var path: FilePath { scratch.path.appending("disk.raw") }
    init() throws {
        scratch = try ScratchFolder()
        try Files.write([UInt8](repeating: 0, count: 4096), to: path)
    }

    private func open(_ access: BlockDevice.Access = .readOnly) throws -> BlockDevice {
        try BlockDevice(opening: path, access)
    }

    @Test func aTargetHasOneOwnerAndNoReaders() throws {
        let first = try open(.exclusiveWrite)
        _ = try Claim.target(first)
        let second = try open(.exclusiveWrite)
        #expect(throws: Claim.Problem.self) { try Claim.target(second) }
        #expect(throws: Claim.Problem.self) { try Claim.target(try open(), isTrial: true) }
        #expect(throws: Claim.Problem.self) { try Claim.source(try open()) }
        withExtendedLifetime(first) {}
    }

    @Test func aSourceHasReadersAndNoOwner() throws {
        let first = try open()
        let claim = try Claim.source(first)
        #expect(claim.isLocked && claim.change() == nil)
        _ = try Claim.source(try open())
        do {
            _ = try Claim.target(try open(.exclusiveWrite))
            Issue.record("a source was taken for a target")
        } catch { #expect("\(error)".contains("capture")) }
        withExtendedLifetime(first) {}
    }

    @Test func theLocksGoWithTheDevice() throws {
        do { _ = try Claim.target(try open(.exclusiveWrite)) }
        _ = try Claim.source(try open())
        _ = try Claim.target(try open(.exclusiveWrite))
    }

    /// QEMU's bytes: 100 to read, 101 to write, 103 to resize; 200 and above deny access to others.
    @Test func readersOfQEMUAreNoWriters() throws {
        let other = try OwnedDescriptor.open(path, .readWrite)
        func take(_ byte: UInt64) throws {
            #expect(try FileLock.take(other.raw, forWriting: false, start: byte, byteCount: 1) == .granted)
        }
        try take(100)
        try take(201)
        _ = try Claim.source(try open())
        #expect(throws: Claim.Problem.self) { try Claim.target(try open(.exclusiveWrite)) }
        try take(101)
        do {
            _ = try Claim.source(try open())
            Issue.record("the disk of a running machine was claimed")
        } catch { #expect("\(error)".contains("QEMU")) }
    }

    @Test func whatWasWrittenIsSeen() throws {
        let device = try open()
        let claim = try Claim.source(device)
        #expect(claim.change() == nil)
        let writer = try open(.exclusiveWrite)
        // File timestamps advance in steps of some milliseconds.
        for _ in 0..<50 where claim.change() == nil {
            try writer.writeBytes([1], at: 5)
            SystemFacts.sleep(seconds: 0.01)
        }
        #expect(claim.change() != nil)
    }

    @Test func errorsOfLocksAreAnswersOrFailures() {
        #expect(FileLock.answer(to: .resourceTemporarilyUnavailable) == .held)
        #expect(FileLock.answer(to: .permissionDenied) == .held)
        #expect(FileLock.answer(to: .noLocks) == .unsupported)
        #expect(FileLock.answer(to: .notSupportedOnSocket) == .unsupported)
        #expect(FileLock.answer(to: .noFunction) == .unsupported)
        #expect(FileLock.answer(to: .ioError) == nil)
    }

    @Test func writtenSectorsOfADeviceCountButNotThoseOfSwap() throws {
        let sys = scratch.path.appending("sys")
        func write(_ sectors: Int, _ discarded: Int, _ name: String) throws {
            try Files.makeFolders(sys.appending("class/block/\(name)"))
            let text = "1 0 8 0 5 0 \(sectors) 0 0 0 0 2 0 \(discarded) 0 3 0\n"
            try Files.write([UInt8](text.utf8), to: sys.appending("class/block/\(name)/stat"))
        }
        let directory = DiskDirectory(sys: sys)
        try write(100, 8, "tda")
        #expect(directory.sectorsWritten(to: "tda") == 108)
        #expect(directory.sectorsWritten(to: "tdz") == nil)
    }

    @Test func mountsInOtherNamespacesAreFound() throws {
        let proc = scratch.path.appending("proc")
        let sys = scratch.path.appending("sys")
        func add(_ process: String, _ namespace: String, _ mounts: String) throws {
            try Files.makeFolders(proc.appending("\(process)/ns"))
            symlink("mnt:[\(namespace)]", proc.appending("\(process)/ns/mnt").string)
            try Files.write([UInt8](mounts.utf8), to: proc.appending("\(process)/mountinfo"))
            try Files.write([UInt8]("sh\n".utf8), to: proc.appending("\(process)/comm"))
        }
        try add("self", "1", "20 1 8:1 / / rw - ext4 /dev/tda1 rw\n")
        // Duplicates: one mount per namespace is enough.
        for process in ["10", "11"] { try add(process, "1", "20 1 8:1 / /twin rw - ext4 /dev/tda1 rw\n") }
        for process in ["12", "13"] { try add(process, "2", "30 1 8:17 / /srv\\040data rw - ext4 /dev/tdx rw\n") }
        for (node, number) in [("tda", "8:0"), ("tdb", "8:17"), ("tdx", "8:33")] {
            try Files.makeFolders(sys.appending("class/block/\(node)"))
            try Files.write([UInt8](number.utf8), to: sys.appending("class/block/\(node)/dev"))
        }
        let directory = DiskDirectory(sys: sys, proc: proc)
        #expect(
            directory.uses(of: "tdb") == [
                .mounted(node: "tdb", at: "/srv data (in the mount namespace of process 12, sh)", readOnly: false)
            ])
        // Device names in that namespace may mean other devices.
        #expect(directory.uses(of: "tdx").isEmpty)
        #expect(MountEntry.inOtherNamespaces(proc: proc).count == 1)
    }
}
