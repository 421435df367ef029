// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// XFS, by xfs_growfs: the kernel grows the mounted filesystem in one transaction.
struct XFSResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.xfs]
    let package = "xfsprogs"
    let programs = ["xfs_growfs"]
    let checkCommand = "xfs_repair -n"

    func grow(_ job: ResizeJob) throws(ResizeError) {
        // nouuid: the source disk may be mounted here too.
        try job.mounted(type: "xfs", data: "nouuid") { mountPoint throws(ResizeError) in
            try job.change(["xfs_growfs", "-d", mountPoint])
        }
    }

    /// The log is clean, and the free space of each group adds up. xfs_repair would need memory for all of its files.
    func isWhole(_ job: ResizeJob) -> Bool { job.isSurveyedWhole() }

    /// "XFS Algorithms & Data Structures", superblock: sb_magicnum at 0, sb_blocksize at 4, sb_dblocks at 8,
    /// big-endian.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 0, count: 512))
        guard fields.has("XFSB".utf8, at: 0) else { return nil }
        return fields.big(8, byteCount: 8).times(fields.big(4, byteCount: 4))
    }
}
