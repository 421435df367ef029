// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Customization

/// The patches of volumes made by other tools, with blkid as the judge.
struct SerialPatchTests {
    struct Case: Sendable {
        var kind: FilesystemInfo.Kind
        var program: String
        var arguments: [String]
        var new: String
        var check: [String]
    }

    static let cases = [
        Case(
            kind: .swap, program: "mkswap", arguments: ["-U", IdentityFixture.swap],
            new: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", check: []),
        Case(
            kind: .fat32, program: "mkfs.fat", arguments: ["-F", "32", "-i", "5EED0002"], new: "1234-ABCD",
            check: ["fsck.fat", "-n"]),
        Case(
            kind: .fat16, program: "mkfs.fat", arguments: ["-F", "16", "-i", "5EED0002"], new: "1234-ABCD",
            check: ["fsck.fat", "-n"]),
        Case(
            kind: .ntfs, program: "mkntfs", arguments: ["-Q", "-F", "-q"], new: "0123456789ABCDEF",
            check: ["ntfsfix", "-n"]),
    ]

    @Test(arguments: cases.indices)
    func blkidShowsTheNewOne(_ index: Int) throws {
        let (test, scratch) = (Self.cases[index], try ScratchFolder())
        guard ChildProcess.canFind(test.program), ChildProcess.canFind("blkid") else { return }
        let path = scratch.path.appending("volume")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(file.raw, path.string, to: 48 << 20)
        let made = try ChildProcess.run([test.program] + test.arguments + [path.string])
        try #require(made.succeeded, "\(made.lastWords)")
        let volume = try BlockDevice(opening: path, .exclusiveWrite)
        let before = try volume.readBytes(at: 0, count: Int(volume.byteCount))
        let patches = try SerialPatches.patches(for: test.kind, on: volume, to: test.new)
        #expect(
            patches.count == (test.kind == .fat32 || test.kind == .ntfs ? 2 : 1), "with the copy of the boot sector")
        var expected = before
        for patch in patches {
            #expect(try volume.readBytes(at: patch.offset, count: patch.from.count) == patch.from)
            try volume.writeBytes(patch.to, at: patch.offset)
            expected.replaceSubrange(Int(patch.offset)..<Int(patch.offset) + patch.to.count, with: patch.to)
        }
        try volume.flush()
        #expect(try volume.readBytes(at: 0, count: before.count) == expected)
        let shown = try ChildProcess.run(["blkid", "-p", "-o", "value", "-s", "UUID", path.string])
        #expect(shown.text.split(separator: "\n").first.map(String.init) == test.new)
        if !test.check.isEmpty {
            let checked = try ChildProcess.run(test.check + [path.string])
            #expect(checked.succeeded, "\(checked.lastWords)")
        }
    }

    /// Foreign bytes give an error, never a patch or a trap.
    @Test func refusesOtherContents() {
        var generator = SeededGenerator(seed: .random(in: 0...UInt64.max))
        for kind in [FilesystemInfo.Kind.swap, .fat16, .fat32, .ntfs, .ext4] {
            for length in [0, 511, 512, 4096, 70000] {
                let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
                let disk = MemoryDisk(bytes)
                if let patches = try? SerialPatches.patches(for: kind, on: disk, to: "1234-ABCD") {
                    #expect(patches.allSatisfy { $0.offset + UInt64($0.from.count) <= UInt64(length) })
                }
            }
        }
        #expect(throws: (any Error).self) {
            try SerialPatches.patches(for: .swap, on: MemoryDisk([UInt8](repeating: 0, count: 8192)), to: "x")
        }
    }

    /// A hibernated system is named by its swap's identifier.
    @Test func refusesHibernation() {
        var bytes = [UInt8](repeating: 0, count: 8192)
        bytes.replaceSubrange(4086..<4096, with: Array("S1SUSPEND\0".utf8))
        #expect(throws: SerialPatches.Misfit.self) {
            try SerialPatches.patches(for: .swap, on: MemoryDisk(bytes), to: IdentityFixture.root)
        }
    }
}
