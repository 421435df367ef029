// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// NTFS, by ntfsresize. It checks the filesystem itself before it changes anything, and has no repair: that is chkdsk's.
struct NTFSResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.ntfs]
    let package = "ntfs-3g"
    let programs = ["ntfsresize"]
    let checkCommand = "ntfsresize --info --force"
    let remarks = ["Windows checks this NTFS when it starts the next time"]

    /// ntfsresize(8): `-f` once answers its question, twice takes a volume that is marked for a check, which it is since
    /// a resize before this one. `-P`: no progress bar.
    private let options = ["-f", "-f", "-P"]

    func grow(_ job: ResizeJob) throws(ResizeError) {
        try tryOut(job, [])
        try job.change(["ntfsresize"] + options + [job.node])
    }

    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        let info = try job.run(["ntfsresize", "--info"] + options + [job.node])
        if info.succeeded {
            let least = Self.least(info.text, clusterSize: job.filesystem.blockSize ?? 4096)
            if let least, byteCount < least { throw ResizeError(.tooSmall(wished: byteCount, leastByteCount: least)) }
        } else if (info.text + info.errorText).contains("Volume is full"),
            let length = try job.superblock({ volume throws(BlockIOError) in try self.byteCount(on: volume) })
        {
            throw ResizeError(.tooSmall(wished: byteCount, leastByteCount: length))
        }
        let size = ["--size", "\(byteCount)"]
        try tryOut(job, size)
        try job.change(["ntfsresize"] + options + size + [job.node])
        try writeBackup(job, byteCount)
    }

    /// Its test run does all but the writing: damage, bad sectors, a piece that cannot be moved.
    private func tryOut(_ job: ResizeJob, _ size: [String]) throws(ResizeError) {
        let output = try job.run(["ntfsresize", "-n"] + options + size + [job.node])
        guard output.succeeded else {
            throw ResizeError(
                .resizeFailed(
                    tool: "ntfsresize", ending: "\(output.ending) in its test run", lastWords: output.lastWords))
        }
    }

    /// The backup of the boot sector lies in the last sector of the partition (ntfs-3g, ntfsfix.c, check_alternate_boot:
    /// that is where Windows writes it). ntfsresize puts it there when it grows, but when it shrinks it cannot know where
    /// the partition will end.
    private func writeBackup(_ job: ResizeJob, _ byteCount: UInt64) throws(ResizeError) {
        let device: BlockDevice
        do { device = try BlockDevice(opening: FilePath(job.node), .exclusiveWrite) } catch {
            throw ResizeError(.unreachable(error), state: job.inDoubt)
        }
        do throws(BlockIOError) {
            guard let length = try self.byteCount(on: device), length <= byteCount, byteCount <= device.byteCount else {
                return
            }
            let sectorSize = SuperblockFields(bytes: try device.readBytes(at: 0, count: 512)).little(11, byteCount: 2)
            let boot = try device.readBytes(at: 0, count: Int(sectorSize))
            try device.writeBytes(boot, at: (byteCount / sectorSize - 1) * sectorSize)
            try device.dropCache()
        } catch {
            throw ResizeError(.inputOutput(error), state: job.inDoubt)
        }
    }

    func isWhole(_ job: ResizeJob) -> Bool {
        (try? job.check(["ntfsresize", "--info"] + options + [job.node])) != nil
    }

    /// "You might resize at 15196160 bytes or 16 MB (freeing 47 MB)." The backup of the boot sector lies behind the last
    /// cluster and is not counted in it, so the room for it is a cluster more.
    static func least(_ text: String, clusterSize: Int) -> UInt64? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard let place = words.firstIndex(of: "at"), words[..<place].suffix(3) == ["You", "might", "resize"],
            let bytes = UInt64(words[words.index(after: place)])
        else { return nil }
        let (sum, overflow) = bytes.addingReportingOverflow(UInt64(max(512, clusterSize)))
        return overflow ? nil : sum
    }

    /// The boot sector (ntfs-3g, `layout.h`, NTFS_BOOT_SECTOR): oem_id at 3, bytes_per_sector at 11, number_of_sectors at
    /// 40. The sector behind those belongs to the volume too: the backup of the boot sector.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 0, count: 512))
        let sectorSize = fields.little(11, byteCount: 2)
        let sectors = fields.little(40, byteCount: 8)
        guard fields.has("NTFS    ".utf8, at: 3), [256, 512, 1024, 2048, 4096].contains(sectorSize), sectors > 0,
            sectors < .max
        else { return nil }
        return (sectors + 1).times(sectorSize)
    }
}
