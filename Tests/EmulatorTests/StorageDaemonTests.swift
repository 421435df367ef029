// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Emulator

private let hasDaemon = ChildProcess.canFind(QemuProgram.storageDaemon.rawValue)
private let canMount = hasDaemon && ChildProcess.canFind("fusermount3") && Files.exists("/dev/fuse")

@Suite(.enabled(if: hasDaemon, "needs qemu-storage-daemon")) struct StorageDaemonTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    /// A raw disk with some bytes at its start.
    private func raw() throws -> FilePath {
        let path = scratch.path.appending("raw")
        try Files.write(Array("contents".utf8) + [UInt8](repeating: 0, count: (1 << 20) - 8), to: path)
        return path
    }

    private func nodes(_ file: String, driver: String = "raw") -> [String] {
        [
            #"{"driver":"file","node-name":"file","filename":\#(QemuText.json(file)),"read-only":true}"#,
            #"{"driver":"\#(driver)","node-name":"disk","file":"file","read-only":true}"#,
        ]
    }

    private func start(
        _ nodes: [String], files: [StorageDaemon.File] = [], export: StorageDaemon.Export = .nbd
    ) throws -> StorageDaemon {
        try StorageDaemon(nodes: nodes, files: files, export: export, cancellation: Cancellation())
    }

    /// Kills the daemon of one test: others have daemons, too.
    private func kill(_ daemon: StorageDaemon) {
        let folder = daemon.socket.removingLastComponent().string
        for process in Processes.children()
        where (Files.text(FilePath("/proc/\(process)/cmdline")) ?? "").contains(folder) {
            Processes.send(.kill, to: process)
        }
        for _ in 0..<500 where daemon.failure == nil { SystemFacts.sleep(seconds: 0.01) }
    }

    @Test func itServesUntilItIsStopped() throws {
        let daemon = try start(nodes(try raw().string))
        let folder = daemon.socket.removingLastComponent()
        #expect(try Stat(folder).permissions.rawValue & 0o077 == 0, "others can enter its folder")
        let read = try ChildProcess.run(["qemu-img", "info", "nbd+unix:///disk?socket=\(daemon.socket)"])
        #expect(read.succeeded && read.text.contains("1048576 bytes"), "\(read.lastWords)")
        #expect(daemon.failure == nil)
        try daemon.stop()
        let after = try ChildProcess.run(["qemu-img", "info", "nbd+unix:///disk?socket=\(daemon.socket)"])
        #expect(!after.succeeded)
        try daemon.stop()
    }

    @Test func itEndsWithTheObject() throws {
        var daemon: StorageDaemon? = try start(nodes(try raw().string))
        let folder = try #require(daemon?.socket.removingLastComponent())
        #expect(Files.exists(folder))
        daemon = nil
        #expect(!Files.exists(folder))
    }

    /// The file is read by its descriptor, even if its name is gone.
    @Test func itReadsAnOpenFile() throws {
        let path = try raw()
        let file = try OwnedDescriptor.open(path, .readOnly)
        try Files.remove(path)
        let attached = StorageDaemon.File(file.raw, name: "the disk")
        let daemon = try start(nodes(attached.path), files: [attached])
        let copy = scratch.path.appending("copy")
        try QemuImage.convert(
            from: "nbd+unix:///disk?socket=\(daemon.socket)", to: copy, format: "raw", cancellation: Cancellation())
        #expect(try Files.read(copy).starts(with: Array("contents".utf8)))
        try daemon.stop()
    }

    /// The message has the name of the file in place of its descriptor.
    @Test func aWrongFormatIsSaid() throws {
        let file = try OwnedDescriptor.open(try raw(), .readOnly)
        let attached = StorageDaemon.File(file.raw, name: "THE-DISK")
        do {
            _ = try start(nodes(attached.path, driver: "qcow2"), files: [attached])
            Issue.record("it was started")
        } catch let error as EmulatorError {
            #expect("\(error)".contains("not in qcow2 format") && !"\(error)".contains("/proc/self/fd"), "\(error)")
        }
        do {
            _ = try start(nodes("/nowhere/at-all"))
            Issue.record("it was started")
        } catch let error as EmulatorError {
            #expect("\(error)".contains("/nowhere/at-all"), "\(error)")
        }
    }

    @Test func aCancelledStartEnds() throws {
        let cancellation = Cancellation()
        cancellation.request(2)
        do {
            _ = try StorageDaemon(nodes: nodes(try raw().string), export: .nbd, cancellation: cancellation)
        } catch let error as EmulatorError {
            guard case .cancelled = error else { throw error }
        }
    }

    @Test func anEndByItselfIsSeen() throws {
        let daemon = try start(nodes(try raw().string))
        kill(daemon)
        #expect(daemon.failure?.contains("signal 9") == true)
        try daemon.stop()
    }

    @Test(.enabled(if: canMount, "needs FUSE")) func aFileHasTheBytesOfTheDisk() throws {
        let place = scratch.path.appending("mounted")
        try Files.write([], to: place)
        let daemon = try start(nodes(try raw().string), export: .fuse(mountPoint: place, isWritable: false))
        #expect(try Files.read(place).starts(with: Array("contents".utf8)))
        try daemon.stop()
        #expect(try Files.read(place).isEmpty)
    }

    /// What is written through a mount is in the image once it is stopped; a daemon that is killed is an error, and its
    /// mount is gone.
    @Test(.enabled(if: canMount, "needs FUSE")) func aWritableFileIsClosedCleanly() throws {
        let place = scratch.path.appending("mounted")
        try Files.write([], to: place)
        let image = scratch.path.appending("new.qcow2")
        try QemuImage.create(format: "qcow2", path: image, byteCount: 1 << 20)
        let nodes = [
            #"{"driver":"file","node-name":"file","filename":\#(QemuText.json(image.string))}"#,
            #"{"driver":"qcow2","node-name":"disk","file":"file"}"#,
        ]
        let daemon = try start(nodes, export: .fuse(mountPoint: place, isWritable: true))
        let file = try OwnedDescriptor.open(place, .readWrite)
        _ = try file.raw.writeAll(toAbsoluteOffset: 4096, Array("written".utf8))
        try file.close()
        try daemon.stop()
        let raw = scratch.path.appending("new.raw")
        let made = try ChildProcess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image.string, raw.string])
        #expect(made.succeeded)
        #expect(Array(try Files.read(raw)[4096..<4103]) == Array("written".utf8))

        let killed = try start(nodes, export: .fuse(mountPoint: place, isWritable: true))
        kill(killed)
        #expect(throws: EmulatorError.self) { try killed.stop() }
        #expect(try Files.read(place).isEmpty)
    }
}
