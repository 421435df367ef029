// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Emulator

@Suite struct QemuOverlayTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test func anOverlayIsPrivateAndReplacesNothing() throws {
        let path = scratch.path.appending("a,b:c.qcow2")
        try QemuOverlay.create(path, byteCount: 1 << 20)
        let bytes = try Files.read(path)
        #expect(bytes.starts(with: [0x51, 0x46, 0x49, 0xFB]))
        #expect(try Stat(path).permissions == [.ownerReadWrite])
        // Two commands have found the name free at once.
        try Files.write(Array("the other's".utf8), to: path)
        #expect(throws: EmulatorError.self) { try QemuOverlay.create(path, byteCount: 1 << 20) }
        #expect(try Files.read(path) == Array("the other's".utf8))
        #expect(throws: EmulatorError.self) { try QemuOverlay.create("/dev/null", byteCount: 1 << 20) }
    }

    @Test func anOverlayThatCannotBeMadeLeavesNothing() throws {
        let path = scratch.path.appending("large.qcow2")
        #expect(throws: EmulatorError.self) { try QemuOverlay.create(path, byteCount: .max) }
        #expect(!Files.exists(path))
    }
}
