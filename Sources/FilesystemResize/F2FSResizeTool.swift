// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// F2FS, by resize.f2fs, which works on the unmounted filesystem. `-s` of later versions could shrink it without
/// adapting its metadata: not trusted here.
struct F2FSResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.f2fs]
    let package = "f2fs-tools"
    let programs = ["fsck.f2fs", "resize.f2fs"]
    let checkCommand = "fsck.f2fs --dry-run"

    func grow(_ job: ResizeJob) throws(ResizeError) {
        // struct f2fs_super_block: log_sectorsize at 8.
        let made = try job.superblock { volume throws(BlockIOError) in
            let fields = SuperblockFields(bytes: try volume.readBytes(at: 1024, count: 512))
            return (sectorSize: fields.little(8, byteCount: 4), diskSectorSize: volume.logicalSectorSize)
        }
        guard (9...12).contains(made.sectorSize), 1 << made.sectorSize == UInt64(made.diskSectorSize) else {
            throw ResizeError(.unsupported(reason: "this F2FS was made for sectors of another size"))
        }
        // Not in every version does its exit status report damage, but a tool that stops half-way is noticed.
        try job.check(["fsck.f2fs", "--dry-run", job.node])
        // Without -t it fills the device: it takes the device's sectors for those of the filesystem.
        try job.change(["resize.f2fs", job.node])
    }

    func isWhole(_ job: ResizeJob) -> Bool {
        (try? job.check(["fsck.f2fs", "--dry-run", job.node])) != nil && job.isSurveyedWhole()
    }

    /// Kernel, `include/linux/f2fs_fs.h`, struct f2fs_super_block at 1024: magic at 0, log_blocksize at 16, block_count
    /// at 36.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 1024, count: 512))
        let logBlockSize = fields.little(16, byteCount: 4)
        guard fields.little(0, byteCount: 4) == 0xF2F5_2010, (12...16).contains(logBlockSize) else { return nil }
        return fields.little(36, byteCount: 8).times(1 << logBlockSize)
    }
}
