// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import Imaging
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import Operations

/// The survey of volumes of which only the first bytes are read.
@Suite(.enabled(if: ChildProcess.canFind("mkntfs"), "needs mkntfs"))
struct ForeignSurveyTests {
    private static let byteCount: UInt64 = 48 << 20

    /// What the survey says about a raw image of a new NTFS, whose log is behind the first 4 MiB.
    private static func surveyed(isDirty: Bool) throws -> FilesystemInfo? {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("ntfs")
        let made = try ChildProcess.run([
            "sh", "-c", "truncate -s \(byteCount) '\(path)' && mkntfs -q -F -L test '\(path)'",
        ])
        try #require(made.succeeded, "\(made.lastWords)")
        if isDirty { try markDirty(path) }
        let disk = ForeignDisk(
            name: path.string, format: "toy", geometry: DiskGeometry(byteCount: byteCount),
            identity: DiskIdentity(path: path.string, transport: "file"),
            parts: [
                ForeignPart(label: "sda1", segments: [0..<byteCount], content: .stream(PieceStream([path]), .raw))
            ], files: [path])
        let plan = try ForeignSurvey(try ForeignContents(disk, Cancellation())).plan()
        return plan.header.manifest.regions.first?.filesystem
    }

    /// Sets VOLUME_IS_DIRTY in the volume information of $Volume, the fourth record (ntfs-3g, layout.h).
    private static func markDirty(_ path: FilePath) throws {
        let file = try FileDescriptor.open(path, .readWrite)
        try file.closeAfter {
            let boot = try read(file, at: 0)
            let cluster = UInt64(boot[13]) * 512
            let place = try boot.littleEndian(UInt64.self, at: 48) * cluster + 3 * 1024
            let record = try read(file, at: place)
            var attribute = Int(try record.littleEndian(UInt16.self, at: 20))
            while try record.littleEndian(UInt32.self, at: attribute) != 0x70 {
                attribute += Int(try record.littleEndian(UInt32.self, at: attribute + 4))
            }
            let flags = attribute + Int(try record.littleEndian(UInt16.self, at: attribute + 20)) + 10
            try file.writeAll(toAbsoluteOffset: Int64(place) + Int64(flags), [record[flags] | 1])
        }
    }

    private static func read(_ file: FileDescriptor, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = try bytes.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: Int64(offset), into: $0) }
        try #require(count == bytes.count)
        return bytes
    }

    /// Zeros in place of the log look like a log to replay.
    @Test func aLogThatWasNotReadIsNoUncleanOne() throws {
        let found = try #require(try Self.surveyed(isDirty: false))
        #expect(found.kind == .ntfs && found.label == "test")
        #expect(found.isClean == nil)
        #expect(found.resizeAbility.canGrow, "\(found.resizeAbility.growObstacle ?? "")")
    }

    @Test func aMarkThatWasReadCounts() throws {
        let found = try #require(try Self.surveyed(isDirty: true))
        #expect(found.kind == .ntfs && found.isClean == false)
        #expect(!found.resizeAbility.canGrow)
    }
}
