// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskEditing

/// The refusal that `body` must end with.
private func refusal<Value>(_ body: () throws(GrowthError) -> Value) -> GrowthError? {
    do {
        _ = try body()
        return nil
    } catch {
        return error
    }
}

/// The checkout, three folders above this file.
private let projectRoot = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()

/// Runs a program that must succeed; its output.
@discardableResult
private func run(_ arguments: String..., input: String = "") throws -> String {
    let output = try ChildProcess.run(arguments, input: Array(input.utf8), timeoutSeconds: 120)
    let succeeded = output.succeeded
    #expect(succeeded, "\(arguments): \(output.lastWords)")
    return output.text
}

/// Where two disks differ first; `nil` where they do not. (Millions of bytes are too many for an expectation's own report.)
private func firstDifference(_ one: [UInt8], _ other: [UInt8]) -> Int? {
    if one == other { return nil }
    return zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(one.count, other.count)
}

/// The bytes of a disk after the first `count` effects of a log.
private func replay(_ effects: some Sequence<MemoryDisk.Effect>, over start: [UInt8]) -> [UInt8] {
    var bytes = start
    for effect in effects {
        if case .write(let offset, let data) = effect {
            bytes.replaceSubrange(Int(offset)..<Int(offset) + data.count, with: data)
        }
    }
    return bytes
}

@Suite(
    .enabled(
        if: ["mkfs.exfat", "fsck.exfat", "python3"].allSatisfy(ChildProcess.canFind), "needs exfatprogs and python3"))
struct ExFATGrowerTests {
    private static let tool = projectRoot.appending("initramfs/exfat-volume.py").string

    /// A volume of 8 MiB with room for more, made by the medium's own tool, in a disk of `byteCount`.
    private func volume(_ folder: ScratchFolder, byteCount: Int) throws -> [UInt8] {
        try Files.write(Array("hello\n".utf8), to: folder.path.appending("hello"))
        let file = folder.path.appending("volume")
        try run(
            "python3", "-B", Self.tool, "make", file.string, "--size", "8M", "--max-size", "128M", "--cluster-size",
            "4K",
            "--file", "hello.txt=\(folder.path.appending("hello"))")
        let bytes = try Files.read(file, limit: 1 << 28)
        return bytes + [UInt8](repeating: 0xA5, count: byteCount - bytes.count)
    }

    private func check(_ bytes: [UInt8], _ folder: ScratchFolder, _ note: String) throws {
        let file = folder.path.appending("check")
        let descriptor = try FileDescriptor.open(
            file, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        try descriptor.closeAfter { _ = try descriptor.writeAll(bytes) }
        let output = try ChildProcess.run(["fsck.exfat", "-n", file.string])
        let succeeded = output.succeeded
        #expect(succeeded, "\(note): \(output.lastWords)")
    }

    @Test(arguments: [12, 13, 64, 100, 200]) func growsAsTheReferenceDoes(mebibytes: Int) throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: mebibytes << 20)
        let disk = MemoryDisk(before)
        let growth = try ExFATGrower.grow(disk)
        #expect(growth.newClusterCount > growth.oldClusterCount && growth.clusterByteCount == 4096)
        try check(disk.bytes, folder, "grown")

        let file = folder.path.appending("reference")
        try Files.write(before, to: file)
        try run("python3", "-B", Self.tool, "grow", file.string)
        var expected = try Files.read(file, limit: 1 << 28)
        // PercentInUse: "not available" instead of an outdated number.
        for place in [112, 12 * 512 + 112] { expected[place] = 0xFF }
        #expect(firstDifference(disk.bytes, expected) == nil)

        let log = disk.log.count
        let again = try ExFATGrower.grow(disk)
        #expect(again.newClusterCount == again.oldClusterCount && disk.log.count == log)
    }

    @Test func everyPrefixOfTheWritesIsAGoodVolumeAndCanGoOn() throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: 32 << 20)
        let disk = MemoryDisk(before)
        _ = try ExFATGrower.grow(disk)
        #expect(disk.log.count == 8)
        for count in 0...disk.log.count {
            let bytes = replay(disk.log.prefix(count), over: before)
            try check(bytes, folder, "after \(count) effects")
            let resumed = MemoryDisk(bytes)
            _ = try ExFATGrower.grow(resumed)
            #expect(firstDifference(resumed.bytes, disk.bytes) == nil, "after \(count) effects")
        }
    }

    @Test func aTornMainRegionIsPutRight() throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: 32 << 20)
        let disk = MemoryDisk(before)
        _ = try ExFATGrower.grow(disk)
        for sectors in 1..<12 {
            var torn = disk.bytes
            torn.replaceSubrange(sectors * 512..<12 * 512, with: before[sectors * 512..<12 * 512])
            let mended = MemoryDisk(torn)
            _ = try ExFATGrower.grow(mended)
            #expect(firstDifference(mended.bytes, disk.bytes) == nil, "torn after \(sectors) sectors")
        }
    }

    @Test func aFailedWriteIsAnError() throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: 16 << 20)
        for count in 0..<8 {
            let disk = MemoryDisk(before)
            disk.fail(after: count)
            #expect(refusal { () throws(GrowthError) in try ExFATGrower.grow(disk) }?.isUnexpected == false)
        }
    }

    @Test func whatIsOddStaysAsItIs() throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: 16 << 20)
        var dirty = before
        dirty[106] |= 2
        for bytes in [dirty, [UInt8](repeating: 0, count: 1 << 20), Array(before.prefix(3000))] {
            let disk = MemoryDisk(bytes)
            #expect(refusal { () throws(GrowthError) in try ExFATGrower.grow(disk) } != nil)
            #expect(disk.log.isEmpty)
        }
    }

    @Test(arguments: [11, 12] as [UInt64]) func survivesDamage(seed: UInt64) throws {
        let folder = try ScratchFolder()
        let before = try volume(folder, byteCount: 9 << 20)
        var random = SeededGenerator(seed: seed)
        let boot = try ExFATGrower.Boot(region: Array(before.prefix(12 * 512)))
        let root = Int(try boot.position(of: boot.sector.rootCluster))
        for _ in 0..<400 {
            var bytes = before
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place =
                    [
                        Int.random(in: 64..<128, using: &random), root + Int.random(in: 0..<96, using: &random),
                        Int(boot.sector.fatOffset) * 512 + Int.random(in: 0..<64, using: &random),
                    ].randomElement(using: &random) ?? 64
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            // With a good checksum: so that the numbers themselves are read.
            let sum = ExFATBootSector.checksum(bytes[0..<11 * 512])
            for at in stride(from: 11 * 512, to: 12 * 512, by: 4) { bytes.setLittleEndian(sum, at: at) }
            _ = refusal { () throws(GrowthError) in try ExFATGrower.grow(MemoryDisk(bytes)) }
        }
    }
}

@Suite(.enabled(if: ["sfdisk", "sgdisk"].allSatisfy(ChildProcess.canFind), "needs sfdisk and sgdisk"))
struct GPTGrowerTests {
    private static let table = """
        label: gpt
        first-lba: 34
        start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649
        start=4096, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI system"
        start=12288, size=8192, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="REFORGE"

        """

    /// A disk of 11 MiB with the stick's table, inside one of `mebibytes`.
    private func disk(_ folder: ScratchFolder, mebibytes: Int, cleanly: Bool = true) throws -> [UInt8] {
        let file = folder.path.appending("disk")
        try Files.write([UInt8](repeating: 0, count: 11 << 20), to: file)
        try run("sfdisk", "-q", file.string, input: Self.table)
        var bytes = try Files.read(file, limit: 1 << 28)
        // Boot code, and the empty active entry that some firmware requires.
        for index in 0..<440 { bytes[index] = UInt8(truncatingIfNeeded: index) }
        bytes[462] = 0x80
        return bytes + [UInt8](repeating: 0xA5, count: (mebibytes << 20) - bytes.count)
    }

    private func dump(_ bytes: [UInt8], _ folder: ScratchFolder) throws -> String {
        let file = folder.path.appending("dump")
        try Files.write(bytes, to: file)
        let output = try ChildProcess.run(["sfdisk", "-d", file.string])
        return output.succeeded
            ? output.text.split(separator: "\n").filter { !$0.hasPrefix("device") }.joined(separator: "\n") : ""
    }

    @Test(arguments: [12, 13, 40, 100]) func growsToTheEnd(mebibytes: Int) throws {
        let folder = try ScratchFolder()
        let before = try disk(folder, mebibytes: mebibytes)
        let disk = MemoryDisk(before)
        let range = try GPTGrower.growLastPartition(of: disk, number: 3)
        #expect(range == 6 << 20..<UInt64(mebibytes - 1) << 20)
        let after = disk.bytes
        let text = try dump(after, folder)
        #expect(text.contains("last-lba: \((mebibytes << 11) - 34)"))
        #expect(
            text.contains("start=       12288, size=\(String((mebibytes - 7) << 11).leftPadded(12)), type=EBD0A0A2"),
            "\(text)")
        let verdict = try run("sgdisk", "-v", folder.path.appending("dump").string)
        #expect(verdict.contains("No problems found"), "\(verdict)")
        #expect(Array(after[0..<446]) == Array(before[0..<446]) && Array(after[462..<512]) == Array(before[462..<512]))
        let log = disk.log.count
        #expect(try GPTGrower.growLastPartition(of: disk, number: 3) == range)
        #expect(disk.log.count == log)
    }

    @Test func everyPrefixOfTheWritesHasAWholeTableAndCanGoOn() throws {
        let folder = try ScratchFolder()
        let before = try disk(folder, mebibytes: 24)
        let disk = MemoryDisk(before)
        _ = try GPTGrower.growLastPartition(of: disk, number: 3)
        for count in 0...disk.log.count {
            let bytes = replay(disk.log.prefix(count), over: before)
            #expect(try dump(bytes, folder).contains("EFI system"), "after \(count) effects")
            let resumed = MemoryDisk(bytes)
            _ = try GPTGrower.growLastPartition(of: resumed, number: 3)
            #expect(firstDifference(resumed.bytes, disk.bytes) == nil, "after \(count) effects")
        }
        // A torn write of the primary: header and entries do not match.
        for sectors in [1, 2, 3] {
            var torn = disk.bytes
            torn.replaceSubrange((1 + sectors) * 512..<34 * 512, with: before[(1 + sectors) * 512..<34 * 512])
            let mended = MemoryDisk(torn)
            _ = try GPTGrower.growLastPartition(of: mended, number: 3)
            #expect(firstDifference(mended.bytes, disk.bytes) == nil, "torn after \(sectors) sectors")
        }
    }

    @Test func whatIsOddStaysAsItIs() throws {
        let folder = try ScratchFolder()
        let before = try disk(folder, mebibytes: 24)
        for number in [0, 1, 2, 4, 129, -1] {
            let disk = MemoryDisk(before)
            #expect(
                refusal { () throws(GrowthError) in try GPTGrower.growLastPartition(of: disk, number: number) }?
                    .isUnexpected == true)
            #expect(disk.log.isEmpty)
        }
        let empty = MemoryDisk(byteCount: 1 << 20)
        #expect(
            refusal { () throws(GrowthError) in try GPTGrower.growLastPartition(of: empty, number: 3) }?.isUnexpected
                == true)
    }

    @Test(arguments: [21, 22] as [UInt64]) func survivesDamage(seed: UInt64) throws {
        let folder = try ScratchFolder()
        let before = try disk(folder, mebibytes: 12)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            var bytes = before
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place =
                    Bool.random(using: &random)
                    ? Int.random(in: 512 + 16..<512 + 92, using: &random)
                    : 1024 + Int.random(in: 0..<512, using: &random)
                bytes[place] = UInt8.random(in: 0...255, using: &random)
            }
            // With valid checksums, so that the numbers are read.
            bytes.setLittleEndian(CRC32.iso.checksum(bytes[1024..<1024 + 16384]), at: 512 + 88)
            bytes.setLittleEndian(UInt32(0), at: 512 + 16)
            bytes.setLittleEndian(CRC32.iso.checksum(bytes[512..<512 + 92]), at: 512 + 16)
            _ = refusal { () throws(GrowthError) in try GPTGrower.growLastPartition(of: MemoryDisk(bytes), number: 3)
            }
        }
    }
}

extension String {
    fileprivate func leftPadded(_ width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}
