// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import Testing

@testable import FilesystemResize

/// What these tests need; where the machine lacks it they are skipped, and say so.
enum Ability {
    static let loopDevices: Bool = SystemFacts.isRoot && Files.exists("/dev/loop-control")
    static func has(_ tool: String) -> Bool {
        ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].contains { Files.exists(FilePath("\($0)/\(tool)")) }
    }
    static let all: Bool = loopDevices && ["mke2fs", "e2fsck", "resize2fs", "debugfs"].allSatisfy(has)
}

/// T4: real tools on loop devices over an image file.
@Suite(.enabled(if: Ability.all, "needs root, loop devices and e2fsprogs"))
struct FilesystemGrowerTests {
    static let mebibyte: UInt64 = 1 << 20
    /// The partition: 40 MiB at 1 MiB, room to grow to 200 MiB.
    static let start = mebibyte

    /// An image with an ext filesystem of 40 MiB that holds one file.
    static func withImage(_ kind: String, sectorSize: Int = 512, _ body: (FilePath) throws -> Void) throws {
        let folder = try Files.makeTemporaryFolder("reforge-resize-test")
        let image = folder.appending("disk.raw")
        let content = folder.appending("content")
        let file = content.appending("hello")
        defer {
            for path in [file, image] { try? Files.remove(path) }
            for path in [content, folder] { try? Files.removeFolder(path) }
        }
        try Files.makeFolders(content)
        try Files.write(Array("kept\n".utf8), to: file)
        let descriptor = try OwnedDescriptor.open(
            image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(descriptor.raw, image.string, to: 202 * mebibyte)
        let made = try ChildProcess.run([
            "mke2fs", "-q", "-F", "-t", kind, "-b", "4096", "-E", "offset=\(start)", "-d", content.string, image.string,
            "40M",
        ])
        try #require(made.succeeded, "\(made.lastWords)")
        try body(image)
    }

    static func info(_ kind: FilesystemInfo.Kind) -> FilesystemInfo {
        FilesystemInfo(kind: kind, kindName: kind.rawValue, byteCount: 40 * mebibyte, mapSource: .allocationStructures)
    }

    static func check(_ image: FilePath, _ byteCount: UInt64) throws -> ChildProcess.Output {
        let loop = try LoopDevice(over: image, range: start..<start + byteCount, readOnly: true)
        let output = try ChildProcess.run(["e2fsck", "-f", "-n", loop.path.string])
        _ = consume loop
        return output
    }

    static func text(of image: FilePath, _ byteCount: UInt64) throws -> String {
        let loop = try LoopDevice(over: image, range: start..<start + byteCount, readOnly: true)
        let output = try ChildProcess.run(["debugfs", "-R", "cat /hello", loop.path.string])
        _ = consume loop
        return output.text
    }

    @Test(arguments: ["ext2", "ext3", "ext4"], [512, 4096])
    func grows(_ kind: String, _ sectorSize: Int) throws {
        try Self.withImage(kind, sectorSize: sectorSize) { image in
            let range = Self.start..<Self.start + 200 * Self.mebibyte
            let info = Self.info(try #require(FilesystemInfo.Kind(rawValue: kind)))
            var said: [String] = []
            let byteCount = try FilesystemGrower.grow(info, on: image, range: range, sectorSize: sectorSize) {
                said.append($0)
            }
            #expect(byteCount == 200 * Self.mebibyte)
            #expect(said.contains { $0.hasPrefix("resize2fs ") })
            #expect(try Self.check(image, byteCount).succeeded)
            #expect(try Self.text(of: image, byteCount) == "kept\n")
            // Again: nothing left to do, and no error.
            #expect(
                try FilesystemGrower.grow(info, on: image, range: range, sectorSize: sectorSize) { _ in }
                    == 200 * Self.mebibyte)
        }
    }

    @Test func damageIsAnErrorAndTheSizeStays() throws {
        try Self.withImage("ext4") { image in
            // The first group's bitmaps and inode table, by the group descriptor in block 1: a journal's inode, the root
            // and everything else is gone, which `e2fsck -p` does not repair by itself.
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            let descriptor = try disk.readBytes(at: Self.start + 4096, count: 12)
            let table = (0..<4).reduce(0 as UInt64) { $0 | UInt64(descriptor[8 + $1]) << (8 * $1) }
            try disk.writeBytes([UInt8](repeating: 0x5A, count: 8192), at: Self.start + table * 4096)
            let before = try disk.readBytes(at: Self.start + 1024, count: 0x10)
            try disk.flush()
            let range = Self.start..<Self.start + 200 * Self.mebibyte
            do throws(ResizeError) {
                _ = try FilesystemGrower.grow(Self.info(.ext4), on: image, range: range, sectorSize: 512) { _ in }
                Issue.record("it grew")
            } catch {
                guard case .checkFailed(let tool, let ending, _) = error else {
                    Issue.record("\(error)")
                    return
                }
                #expect(tool == "e2fsck")
                #expect(ending == "exit status 4" || ending == "exit status 12")
                #expect("\(error)".contains("keeps its old size"))
            }
            // The block count in the superblock is what it was.
            #expect(Array(try disk.readBytes(at: Self.start + 1024, count: 0x10)[4..<8]) == Array(before[4..<8]))
        }
    }

    @Test func otherFilesystemsAreRefused() throws {
        let swap = FilesystemInfo(kind: .swap, kindName: "swap", mapSource: .headerOnly)
        #expect(!FilesystemGrower.canGrow(swap))
        #expect(throws: ResizeError.self) {
            try FilesystemGrower.grow(swap, on: "/dev/null", range: 0..<1, sectorSize: 512) { _ in }
        }
    }

    @Test func aDiskThatIsNotThere() {
        #expect(throws: ResizeError.self) {
            try FilesystemGrower.grow(Self.info(.ext4), on: "/nonexistent", range: 0..<1, sectorSize: 512) { _ in }
        }
    }
}

@Suite struct ResizeErrorTests {
    @Test func everyErrorSaysThatTheOldSizeStays() {
        let errors: [ResizeError] = [
            .unsupported(kindName: "ntfs"), .toolMissing(tool: "resize2fs", package: "e2fsprogs"),
            .checkFailed(tool: "e2fsck", ending: "exit status 4", lastWords: "UNEXPECTED INCONSISTENCY"),
            .resizeFailed(tool: "resize2fs", ending: "exit status 1", lastWords: "no"),
            .unreachable(SystemCallError("open", "/dev/loop0", .permissionDenied)),
        ]
        for error in errors { #expect("\(error)".contains("keeps its old size")) }
        #expect("\(errors[1])".contains("Debian package e2fsprogs"))
    }
}
