// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import FilesystemResize
@testable import Filesystems

/// A filesystem that is added by table rows only, as in docs/contributing.md: blocks of 4 KiB, the first with a magic
/// number and the number of blocks, the second with one bit per block.
enum ToyFilesystem {
    static let magic = Array("TOYFILESYSTEM-01".utf8)

    static let format = FilesystemFormat(
        kindNames: ["toyfs"],
        survey: { (volume) throws(BlockIOError) in
            guard volume.byteCount >= 8192 else { return nil }
            let head = try volume.readBytes(at: 0, count: 24)
            guard head.starts(with: magic), let count: UInt64 = try? head.littleEndian(at: 16) else { return nil }
            var info = FilesystemInfo(
                kind: .other, kindName: "toyfs", blockSize: 4096, mapSource: .allocationStructures)
            let whole = AllocationMap.whole(byteCount: volume.byteCount)
            guard count >= 2, count <= 4096 * 8, count * 4096 <= volume.byteCount else {
                return (info.takenWhole(because: "it has \(count) blocks"), whole)
            }
            info.byteCount = count * 4096
            info.isClean = true
            let bits = try volume.readBytes(at: 4096, count: 4096)
            var map = AllocationMap(byteCount: volume.byteCount)
            for block in 0..<count where bits[Int(block / 8)] & 1 << UInt8(block % 8) != 0 {
                map.insert(block * 4096..<(block + 1) * 4096)
            }
            map.insert(count * 4096..<max(count * 4096 + 1, volume.byteCount))
            return (info, map)
        },
        prove: { (volume, _) throws(BlockIOError) in
            // The bitmap's own block has an owner.
            try volume.readBytes(at: 4096, count: 1)[0] & 3 == 3 ? nil : "the bitmap calls its own block free"
        })

    static var traits: FilesystemTraits {
        var row = FilesystemTraits([], names: ["toyfs"])
        row.mount = FilesystemTraits.MountManner("toyfs", readOnlyOptions: "noreplay")
        row.growCommand = "toyresize NODE"
        row.shrinkObstacle = { _ in "a toy cannot be made smaller" }
        row.sectors = .blocks("blocks")
        return row
    }

    struct Tool: ResizeTool {
        let kinds: Set<FilesystemInfo.Kind> = []
        let otherNames: Set<String> = ["toyfs"]
        let package = "coreutils"
        let programs = ["true"]
        let checkCommand = "true"
        func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
            let head = try volume.readBytes(at: 0, count: 24)
            guard head.starts(with: magic), let count: UInt64 = try? head.littleEndian(at: 16) else { return nil }
            return count.multipliedReportingOverflow(by: 4096).partialValue
        }
        func grow(_ job: ResizeJob) throws(ResizeError) {}
        func isWhole(_ job: ResizeJob) -> Bool { true }
    }

    static let register: Void = {
        VolumeIdentifier.formats.register(format)
        FilesystemTraits.added.register(traits)
        ResizeTools.table.register(Tool())
    }()

    /// A volume with some blocks in use.
    static func volume(blocks: UInt64, used: Set<UInt64>, byteCount: Int) throws -> MemoryDisk {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        bytes.replaceSubrange(0..<16, with: magic)
        bytes.setLittleEndian(blocks, at: 16)
        for block in used { bytes[4096 + Int(block / 8)] |= 1 << UInt8(block % 8) }
        return MemoryDisk(bytes)
    }
}

@Suite struct ToyFilesystemTests {
    init() { _ = ToyFilesystem.register }

    @Test func itsMapIsRead() throws {
        let disk = try ToyFilesystem.volume(blocks: 64, used: [0, 1, 9, 10, 63], byteCount: 66 * 4096)
        let (info, map) = try VolumeIdentifier.survey(disk)
        #expect(info.kindName == "toyfs" && info.mapSource == .allocationStructures)
        // Bytes after its end count as used.
        let used: [ByteRange] = [0..<8192, 36_864..<45_056, 258_048..<270_336]
        #expect(map.ranges == used)
    }

    @Test func itsProofIsAsked() throws {
        let disk = try ToyFilesystem.volume(blocks: 64, used: [0, 9], byteCount: 64 * 4096)
        let (info, map) = try VolumeIdentifier.survey(disk)
        #expect(info.mapSource == .whole && info.wholeReason?.contains("its own block") == true)
        #expect(map.usedByteCount == disk.byteCount)
        let trusted = try VolumeIdentifier.survey(disk, trustMaps: true)
        #expect(trusted.0.mapSource == .allocationStructures)
    }

    @Test func damageIsTakenWhole() throws {
        for blocks in [0, 1, 65, .max] as [UInt64] {
            let disk = try ToyFilesystem.volume(blocks: blocks, used: [0, 1], byteCount: 64 * 4096)
            let (info, map) = try VolumeIdentifier.survey(disk)
            #expect(info.mapSource == .whole && map.usedByteCount == disk.byteCount, "\(blocks)")
        }
    }

    @Test func itsRowsAreFound() throws {
        let disk = try ToyFilesystem.volume(blocks: 64, used: [0, 1], byteCount: 64 * 4096)
        let info = try VolumeIdentifier.survey(disk).0
        #expect(info.traits.mount?.readOnlyOptions == "noreplay")
        #expect(info.resizeAbility.canGrow && !info.resizeAbility.canShrink)
        #expect(info.sectorObstacle(onto: 4096, captured: 512) == nil)
        #expect(ResizeTools.tool(for: info)?.checkCommand == "true")
        #expect(VolumeIdentifier.mappedNames.contains("toyfs"))
        // Another filesystem name of kind `other` has none of these abilities.
        let other = FilesystemInfo(kind: .other, kindName: "zfs_member", mapSource: .whole)
        #expect(ResizeTools.tool(for: other) == nil && !other.resizeAbility.canGrow)
    }
}
