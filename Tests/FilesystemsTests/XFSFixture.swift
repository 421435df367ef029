// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

/// Small XFS images for tests that change bytes, each made once.
enum XFSFixture {
    static let byteCount = 40 << 20
    static let version4 = Result { try make(["-m", "crc=0", "-b", "size=1024", "-l", "size=6m"]) }
    static let version5 = Result { try make(["-l", "size=6m"]) }
    /// With trees of two levels, where the kernel can create them.
    static let fragmented = Result { try makeFragmented() }

    private static let groupOptions = ["-d", "agcount=2"]

    private static func make(_ options: [String]) throws -> [UInt8] {
        let bench = try Workbench()
        var random = SeededGenerator(seed: 1)
        let prototype = try bench.xfsPrototype(files: 20, using: &random)
        let image = try bench.makeXFS(
            "image", byteCount: UInt64(byteCount), groupOptions + options + ["-p", prototype.string])
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    private static func makeFragmented() throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.makeXFS(
            "image", byteCount: UInt64(byteCount),
            groupOptions + ["-b", "size=1024", "-m", "rmapbt=1", "-l", "size=6m"])
        try bench.runShell("image", "mount -o loop \"$image\" \"$place\"\n" + punchedFile("holes", holes: 400))
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    /// A command that makes a file with a hole after every block of 4 KiB.
    static func punchedFile(_ name: String, holes: Int) -> String {
        let punches = (0..<holes).map { "-c 'fpunch \($0 * 8192) 4096'" }.joined(separator: " ")
        return "xfs_io -f -c 'pwrite -q 0 \(holes * 8192)' -c fsync \(punches) \"$place/\(name)\"\n"
    }

    /// The places of each group's tree root blocks, and of the last record of the log, in bytes.
    static func places(_ bytes: [UInt8]) throws -> (groups: [Int], trees: [Int], log: Range<Int>, blockSize: Int) {
        let superblock = try XFSSuperblock(bytes)
        guard let superblock else { throw ToolFailure(description: "no XFS") }
        var groups: [Int] = []
        var trees: [Int] = []
        for group in 0..<UInt64(superblock.groupCount) {
            let start = Int(superblock.offset(ofGroup: group))
            groups.append(start)
            for field in [16, 20] {
                let root = try bytes.bigEndian(UInt32.self, at: start + 512 + field)
                trees.append(start + Int(root) * Int(superblock.blockSize))
            }
        }
        let log = superblock.logRange
        return (groups, trees, Int(log.lowerBound)..<Int(log.upperBound), Int(superblock.blockSize))
    }

    /// The filesystem with a log of 1 MiB that contains everything ever written to it: shorter than any from
    /// `mkfs.xfs`, so that thousands of surveys take little time.
    static func withShortLog(_ bytes: [UInt8]) throws -> [UInt8] {
        var bytes = bytes
        let blockCount = UInt32((1 << 20) / (try places(bytes).blockSize))
        bytes.replaceSubrange(96..<100, with: (0..<4).map { UInt8(truncatingIfNeeded: blockCount >> (24 - 8 * $0)) })
        mend(&bytes, at: 0, count: 512, field: XFSChecksum.superblockOffset)
        return bytes
    }

    /// Repairs the checksum of a changed structure.
    static func mend(_ bytes: inout [UInt8], at offset: Int, count: Int, field: Int) {
        let structure = Array(bytes[offset..<offset + count])
        guard let sum = XFSChecksum.compute(structure, fieldAt: field) else { return }
        bytes.setLittleEndian(sum, at: offset + field)
    }

    static func mend(_ reader: inout PatchedReader, at offset: Int, count: Int, field: Int) throws {
        guard let sum = XFSChecksum.compute(try reader.current(offset..<offset + count), fieldAt: field) else { return }
        var encoded: [UInt8] = []
        encoded.appendLittleEndian(sum)
        reader.patches.append((offset + field, encoded))
    }

    /// Repairs all headers and the trees' blocks at `trees`.
    static func mendAll(_ reader: inout PatchedReader, groups: [Int], trees: [Int], blockSize: Int) throws {
        try mend(&reader, at: 0, count: 512, field: XFSChecksum.superblockOffset)
        for group in groups {
            try mend(&reader, at: group + 512, count: 512, field: XFSChecksum.groupHeaderOffset)
            try mend(&reader, at: group + 1536, count: 512, field: XFSChecksum.freeListOffset)
        }
        for tree in trees { try mend(&reader, at: tree, count: blockSize, field: XFSChecksum.treeBlockOffset) }
    }
}

extension PatchedReader {
    /// Flips one bit.
    mutating func flip(_ offset: Int) { patches.append((offset, [base[offset] ^ 1])) }

    /// Adds to a byte as patched so far.
    mutating func change(_ offset: Int, by delta: Int) throws {
        let old = try current(offset..<offset + 1)[0]
        patches.append((offset, [UInt8(truncatingIfNeeded: Int(old) + delta)]))
    }
}
