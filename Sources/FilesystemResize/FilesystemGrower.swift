// SPDX-License-Identifier: GPL-3.0-or-later
public import DiskModel
import LinuxSystem
public import SystemPackage

/// Grows a filesystem to the end of its partition, by its own well-kept tool.
public enum FilesystemGrower {
    /// Whether `grow` has a tool for this filesystem.
    public static func canGrow(_ filesystem: FilesystemInfo) -> Bool { filesystem.isExt }

    /// Makes an unmounted ext2, ext3 or ext4 fill `range`: `e2fsck -f -p`, then `resize2fs`. The disk needs no
    /// partition table for it: the tools work on a loop device over the range.
    /// - Parameters:
    ///   - disk: the path of the disk or the raw image file.
    ///   - range: where the (larger) partition lies, in bytes of the disk.
    ///   - sectorSize: the disk's logical sector size in bytes.
    ///   - log: is told what runs and what it said.
    /// - Returns: the filesystem's new length in bytes, read back from its superblock.
    /// - Throws: `ResizeError`; the filesystem then has its old size.
    @discardableResult
    public static func grow(
        _ filesystem: FilesystemInfo, on disk: FilePath, range: ByteRange, sectorSize: Int, log: (String) -> Void
    ) throws(ResizeError) -> UInt64 {
        guard canGrow(filesystem) else { throw .unsupported(kindName: filesystem.kindName) }
        // Each node caches for itself: what others wrote to the disk must be on it before the loop device reads.
        try synchronise(disk, sectorSize)
        try runTools(disk, range, sectorSize, log)
        try synchronise(disk, sectorSize)
        return try ext4ByteCount(disk, range, sectorSize)
    }

    private static func runTools(
        _ disk: FilePath, _ range: ByteRange, _ sectorSize: Int, _ log: (String) -> Void
    ) throws(ResizeError) {
        let loop: LoopDevice
        do { loop = try LoopDevice(over: disk, range: range, sectorSize: sectorSize) } catch {
            throw .unreachable(error)
        }
        let node = loop.path.string
        // e2fsck(8), exit code: 1 and 2 are errors corrected ("reboot" concerns a mounted root only); 4 and more are not.
        let check = try run(["e2fsck", "-f", "-p", node], log)
        switch check.ending {
        case .exited(0...2): break
        default: throw .checkFailed(tool: "e2fsck", ending: "\(check.ending)", lastWords: check.lastWords)
        }
        let resize = try run(["resize2fs", node], log)
        guard resize.succeeded else {
            throw .resizeFailed(tool: "resize2fs", ending: "\(resize.ending)", lastWords: resize.lastWords)
        }
        // The loop device flushes and goes with the end of this function.
        _ = consume loop
    }

    private static func run(
        _ arguments: [String], _ log: (String) -> Void
    ) throws(ResizeError) -> ChildProcess.Output {
        let tool = arguments.first ?? ""
        log(arguments.joined(separator: " "))
        do {
            // Days, not hours: a check of a large, slow disk takes its time, and is worse off when it is killed.
            let output = try ChildProcess.run(arguments, timeoutSeconds: 7 * 86400)
            for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
            return output
        } catch  where error.errno == .noSuchFileOrDirectory {
            throw .toolMissing(tool: tool, package: "e2fsprogs")
        } catch {
            throw .unreachable(error)
        }
    }

    private static func synchronise(_ path: FilePath, _ sectorSize: Int) throws(ResizeError) {
        let disk: BlockDevice
        do { disk = try BlockDevice(opening: path, .readOnly, sectorSize: sectorSize) } catch {
            throw .unreachable(error)
        }
        do { try disk.dropCache() } catch { throw .inputOutput(error) }
    }

    /// The length of the filesystem by its superblock (ext4 documentation, "Super Block": s_blocks_count_lo at 0x4,
    /// s_log_block_size at 0x18, s_feature_incompat at 0x60 with INCOMPAT_64BIT = 0x80, s_blocks_count_hi at 0x150).
    private static func ext4ByteCount(
        _ path: FilePath, _ range: ByteRange, _ sectorSize: Int
    ) throws(ResizeError) -> UInt64 {
        let superblock: [UInt8]
        do {
            let disk = try BlockDevice(opening: path, .readOnly, sectorSize: sectorSize)
            superblock = try disk.readBytes(at: range.lowerBound + 1024, count: 1024)
        } catch let error as BlockIOError {
            throw .inputOutput(error)
        } catch let error as SystemCallError {
            throw .unreachable(error)
        } catch {
            throw .resizeFailed(tool: "resize2fs", ending: "no superblock", lastWords: "\(error)")
        }
        func field(_ offset: Int) -> UInt64 { (0..<4).reduce(0) { $0 | UInt64(superblock[offset + $1]) << (8 * $1) } }
        let is64Bit = field(0x60) & 0x80 != 0
        let blockCount = field(0x4) | (is64Bit ? field(0x150) << 32 : 0)
        let (byteCount, overflow) = blockCount.multipliedReportingOverflow(by: 1024 << min(field(0x18), 6))
        guard !overflow, byteCount <= range.byteCount else {
            throw .resizeFailed(
                tool: "resize2fs", ending: "its superblock makes no sense", lastWords: "\(blockCount) blocks")
        }
        return byteCount
    }
}
