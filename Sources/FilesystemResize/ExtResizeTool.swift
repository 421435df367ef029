// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// ext2, ext3 and ext4, by e2fsprogs. resize2fs requires an `e2fsck -f` before it.
struct ExtResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.ext2, .ext3, .ext4]
    let package = "e2fsprogs"
    let programs = ["e2fsck", "resize2fs"]
    let checkCommand = "e2fsck -f"

    func grow(_ job: ResizeJob) throws(ResizeError) {
        try repair(job)
        try job.change(["resize2fs", job.node])
    }

    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        try repair(job)
        let size = try job.superblock { volume throws(BlockIOError) in try self.blockSize(on: volume) }
        guard let blockSize = size else { throw ResizeError(.unsupported(reason: "its superblock makes no sense")) }
        let estimate = try job.check(["resize2fs", "-P", job.node])
        // "Estimated minimum size of the filesystem: 17550", in blocks (resize2fs(8), -P).
        guard let blocks = estimate.text.split(whereSeparator: \.isWhitespace).last.flatMap({ UInt64($0) }),
            let least = blocks.times(blockSize)
        else {
            throw ResizeError(
                .checkFailed(tool: "resize2fs", ending: "no estimate", lastWords: estimate.lastWords))
        }
        guard byteCount >= least else { throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: least)) }
        // `s`: sectors of 512 bytes (resize2fs(8)).
        try job.change(["resize2fs", job.node, "\(byteCount / blockSize * (blockSize / 512))s"])
    }

    func isWhole(_ job: ResizeJob) -> Bool { (try? examine(job)) != nil }

    /// e2fsck(8), exit code: 1 and 2 mean corrected errors ("reboot" concerns a mounted root only); 4 and more do not.
    private func repair(_ job: ResizeJob) throws(ResizeError) {
        // A filesystem that was damaged at its capture is restored as it was. A journal to
        // replay is no evidence of that.
        if job.filesystem.isClean != false { try examine(job) }
        job.begun.isTrue = true
        try job.check(["e2fsck", "-f", "-p", job.node], passes: 0...2)
    }

    private func examine(_ job: ResizeJob) throws(ResizeError) {
        try job.check(["e2fsck", "-f", "-n", job.node])
    }

    /// ext4 documentation, "Super Block": s_blocks_count_lo at 0x4, s_feature_incompat at 0x60 with INCOMPAT_64BIT =
    /// 0x80, s_blocks_count_hi at 0x150.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        guard let blockSize = try blockSize(on: volume) else { return nil }
        let fields = try superblock(on: volume)
        let high = fields.little(0x60, byteCount: 4) & 0x80 != 0 ? fields.little(0x150, byteCount: 4) << 32 : 0
        return (high | fields.little(0x4, byteCount: 4)).times(blockSize)
    }

    /// ext4 documentation, "Super Block": s_magic at 0x38, s_log_block_size at 0x18.
    private func blockSize(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        let fields = try superblock(on: volume)
        let logBlockSize = fields.little(0x18, byteCount: 4)
        return fields.has([0x53, 0xEF], at: 0x38) && logBlockSize <= 6 ? 1024 << logBlockSize : nil
    }

    private func superblock(on volume: any BlockReader) throws(BlockIOError) -> SuperblockFields {
        SuperblockFields(bytes: try volume.readBytes(at: 1024, count: 1024))
    }
}
