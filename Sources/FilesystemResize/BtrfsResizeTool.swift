// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Btrfs on one device, by `btrfs filesystem resize`: the kernel resizes the mounted filesystem, and moves chunks out
/// of the way transaction by transaction.
struct BtrfsResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.btrfs]
    let package = "btrfs-progs"
    let programs = ["btrfs"]
    let checkCommand = "btrfs check --readonly"

    func grow(_ job: ResizeJob) throws(ResizeError) {
        try mounted(job) { mountPoint, device throws(ResizeError) in
            try resize(job, "\(device):max", mountPoint)
        }
    }

    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        guard byteCount >= LeastSize.btrfsFloor else {
            throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: LeastSize.btrfsFloor))
        }
        try mounted(job) { mountPoint, device throws(ResizeError) in
            // Its estimate counts only after an attempt: partly empty chunks are packed during it.
            let least = try job.run(["btrfs", "inspect-internal", "min-dev-size", "--id", device, mountPoint])
            // Its length is a multiple of its sector size.
            let sectorSize = UInt64(max(4096, job.filesystem.sectorSize ?? 4096))
            let rounded = byteCount / sectorSize * sectorSize
            do throws(ResizeError) { try resize(job, "\(device):\(rounded)", mountPoint) } catch {
                // "139460608 bytes (133.00MiB)"
                let bytes = least.text.split(separator: " ").first.flatMap { UInt64($0) }
                guard let bytes, bytes > byteCount, case .resizeFailed = error.problem else { throw error }
                throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: max(bytes, LeastSize.btrfsFloor)))
            }
        }
    }

    /// If a resize fails, the kernel restores the device's old length; chunks moved until then stay moved.
    private func resize(_ job: ResizeJob, _ size: String, _ mountPoint: String) throws(ResizeError) {
        try job.change(["btrfs", "filesystem", "resize", size, mountPoint])
    }

    func isWhole(_ job: ResizeJob) -> Bool { job.isSurveyedWhole() }

    private func mounted(
        _ job: ResizeJob, _ body: (_ mountPoint: String, _ device: String) throws(ResizeError) -> Void
    ) throws(ResizeError) {
        let device = try job.superblock { volume throws(BlockIOError) in try deviceNumber(on: volume) }
        guard let device else {
            throw ResizeError(.unsupported(reason: "a Btrfs on several devices is not resized"))
        }
        let uuid = try job.superblock { volume throws(BlockIOError) in try identity(on: volume) }
        // The kernel identifies Btrfs filesystems by UUID alone: a mount of this copy would show the other one, and
        // the resize would change that.
        guard pool(uuid).isEmpty else {
            throw ResizeError(.unsupported(reason: "another copy of this Btrfs is mounted"))
        }
        // The kernel remembers the devices of each Btrfs: this node disappears in a moment.
        defer { _ = try? job.run(["btrfs", "device", "scan", "--forget", job.node]) }
        // skip_balance: a balance that was interrupted on the captured machine must not resume here.
        try job.mounted(type: "btrfs", data: "skip_balance") { mountPoint throws(ResizeError) in
            guard pool(uuid) == [job.nodeName] else {
                throw ResizeError(
                    .unsupported(
                        reason: "another device with this Btrfs is attached (\(pool(uuid).joined(separator: ", ")))"))
            }
            try body(mountPoint, "\(device)")
        }
    }

    /// The kernel's names of the devices of a mounted Btrfs (`/sys/fs/btrfs/UUID/devices`).
    private func pool(_ uuid: String) -> [String] { Files.names(in: FilePath("/sys/fs/btrfs/\(uuid)/devices")) }

    /// Btrfs wiki, "On-disk Format", superblock at 64 KiB: magic at 0x40, num_devices at 0x88, dev_item at 0xC9 with
    /// devid at its 0 and total_bytes at its 8.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        try superblock(on: volume)?.little(0xC9 + 8, byteCount: 8)
    }

    private func deviceNumber(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        guard let fields = try superblock(on: volume), fields.little(0x88, byteCount: 8) == 1 else { return nil }
        return fields.little(0xC9, byteCount: 8)
    }

    /// fsid at 0x20, as the kernel spells it.
    private func identity(on volume: any BlockReader) throws(BlockIOError) -> String {
        SuperblockFields(bytes: try volume.readBytes(at: 64 << 10, count: 4096)).uuid(0x20)
    }

    private func superblock(on volume: any BlockReader) throws(BlockIOError) -> SuperblockFields? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 64 << 10, count: 4096))
        return fields.has("_BHRfS_M".utf8, at: 0x40) ? fields : nil
    }
}
