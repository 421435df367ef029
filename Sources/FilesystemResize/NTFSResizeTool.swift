// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// NTFS, by ntfsresize. It checks the filesystem itself before any change, and cannot repair: only chkdsk can.
struct NTFSResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.ntfs]
    let package = "ntfs-3g"
    let programs = ["ntfsresize"]
    let checkCommand = "ntfsresize --info --force"
    let remarks = ["Windows checks this NTFS at its next start"]

    /// ntfsresize(8): one `-f` answers its question, two accept a volume that is marked for a check, as it is since an
    /// earlier resize. `-P`: no progress bar.
    private let options = ["-f", "-f", "-P"]

    func grow(_ job: ResizeJob) throws(ResizeError) {
        try tryOut(job, [])
        try job.change(["ntfsresize"] + options + [job.node])
    }

    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        let info = try job.run(["ntfsresize", "--info"] + options + [job.node])
        if info.succeeded {
            let least = Self.least(info.text, clusterSize: job.filesystem.blockSize ?? 4096)
            if let least, byteCount < least {
                throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: least))
            }
        } else if (info.text + info.errorText).contains("Volume is full"),
            let length = try job.superblock({ volume throws(BlockIOError) in try self.byteCount(on: volume) })
        {
            throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: length))
        }
        let size = ["--size", "\(byteCount)"]
        try tryOut(job, size)
        try job.change(["ntfsresize"] + options + size + [job.node])
        try writeBackup(job, byteCount)
    }

    /// Its test run does everything except writing, and finds damage, bad sectors and immovable pieces.
    private func tryOut(_ job: ResizeJob, _ size: [String]) throws(ResizeError) {
        let output = try job.run(["ntfsresize", "-n"] + options + size + [job.node])
        guard output.succeeded else {
            throw ResizeError(
                .resizeFailed(
                    tool: "ntfsresize", ending: "\(output.ending) in its test run", lastWords: output.lastWords))
        }
    }

    /// The backup of the boot sector is in the last sector of the partition (ntfs-3g, ntfsfix.c, check_alternate_boot:
    /// Windows writes it there). ntfsresize writes it there when it grows the filesystem, but when it shrinks it, it
    /// cannot know the future end of the partition.
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

    /// "You might resize at 15196160 bytes or 16 MB (freeing 47 MB)." The backup of the boot sector is behind the last
    /// cluster and not included, so its room is one cluster more.
    static func least(_ text: String, clusterSize: Int) -> UInt64? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard let place = words.firstIndex(of: "at"), words[..<place].suffix(3) == ["You", "might", "resize"],
            let bytes = UInt64(words[words.index(after: place)])
        else { return nil }
        let (sum, overflow) = bytes.addingReportingOverflow(UInt64(max(512, clusterSize)))
        return overflow ? nil : sum
    }

    /// The boot sector (ntfs-3g, `layout.h`, NTFS_BOOT_SECTOR): oem_id at 3, bytes_per_sector at 11, number_of_sectors
    /// at 40. The sector behind those, with the backup of the boot sector, belongs to the volume too.
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
