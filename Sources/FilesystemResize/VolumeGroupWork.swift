// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Work on one volume group with LVM's own programs, confined to the one node that holds its physical volume: other
/// disks may hold a copy of it.
struct VolumeGroupWork {
    let job: ResizeJob
    let group: FilesystemInfo.VolumeGroup

    private func command(_ name: String, _ arguments: [String]) -> [String] {
        ConfinedLVM.command(name, on: job.node, arguments)
    }

    /// Runs a command that only reads.
    @discardableResult
    func check(_ name: String, _ arguments: [String]) throws(ResizeError) -> ChildProcess.Output {
        try job.check(command(name, arguments))
    }

    /// Runs a command that changes the metadata. Each of them commits completely or not at all.
    func change(_ name: String, _ arguments: [String]) throws(ResizeError) {
        try job.change(command(name, arguments))
    }

    /// Rows of a report, with lengths in bytes.
    func rows(_ name: String, _ columns: String, _ arguments: [String]) throws(ResizeError) -> [[String]] {
        let output = try check(
            name, ["--noheadings", "--separator", "|", "--units", "b", "--nosuffix", "-o", columns] + arguments)
        return output.text.split(separator: "\n").map { line in
            line.split(separator: "|", omittingEmptySubsequences: false).map { String($0).trimmed }
        }
    }

    // MARK: what is there

    /// Fails if LVM does not find the captured group.
    func checkIsCaptured(_ volumes: [FilesystemInfo.InnerVolume]) throws(ResizeError) {
        try checkIsWhole()
        let found = try facts()
        let lengths = try lengths()
        guard found.extentCount == group.extentCount, found.extentByteCount == group.extentByteCount,
            lengths == Dictionary(volumes.map { ($0.name, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
        else { throw ResizeError(.unsupported(reason: "\(group.name) is not as it was captured")) }
    }

    /// Uses LVM's own checks of the metadata (vgck(8), pvck(8)).
    func checkIsWhole() throws(ResizeError) {
        try check("pvck", [job.node])
        try check("vgck", [group.name])
    }

    /// The number and length of the extents, according to LVM.
    func facts() throws(ResizeError) -> (extentCount: UInt64, extentByteCount: UInt64) {
        let found = try rows("pvs", "vg_uuid,vg_name,pv_count,pv_pe_count,vg_extent_size", [job.node])
        guard found.count == 1, found[0].count == 5, found[0][0].filter({ $0 != "-" }) == group.id,
            found[0][1] == group.name, found[0][2] == "1", let count = UInt64(found[0][3]),
            let byteCount = UInt64(found[0][4])
        else { throw ResizeError(.unsupported(reason: "LVM does not find the volume group \(group.name) there")) }
        return (count, byteCount)
    }

    /// The lengths of the logical volumes in bytes, by `group/volume`.
    func lengths() throws(ResizeError) -> [String: UInt64] {
        var lengths: [String: UInt64] = [:]
        for row in try rows("lvs", "vg_name,lv_name,lv_size", [group.name]) {
            guard row.count == 3, let byteCount = UInt64(row[2]) else {
                throw ResizeError(.unsupported(reason: "lvs printed an unexpected line: \(row.joined(separator: "|"))"))
            }
            lengths["\(row[0])/\(row[1])"] = byteCount
        }
        return lengths
    }

    /// The end of the last extent that a volume uses: the number behind it.
    func endOfVolumes() throws(ResizeError) -> UInt64 {
        var end: UInt64 = 0
        for row in try rows("pvs", "pvseg_start,pvseg_size,lv_name", ["--segments", job.node]) {
            guard row.count == 3, let start = UInt64(row[0]), let count = UInt64(row[1]) else {
                throw ResizeError(.unsupported(reason: "pvs printed an unexpected line: \(row.joined(separator: "|"))"))
            }
            let (last, overflow) = start.addingReportingOverflow(count)
            if !row[2].isEmpty, !overflow { end = max(end, last) }
        }
        return end
    }

    // MARK: the kernel's devices

    /// All devices of this group, including those that other programs created.
    var devices: [MappedDevice] { MappedDevice.all().filter { $0.uuid.hasPrefix("LVM-\(group.id)") } }

    /// The place of an active volume.
    func place(of volume: String) throws(ResizeError) -> ResizePlace {
        let name = MappedDevice.name(group: group.name, volume: volume)
        guard let device = devices.first(where: { $0.name == name }) else {
            throw ResizeError(.unsupported(reason: "the kernel has no device for \(group.name)/\(volume)"))
        }
        return .device(device.path)
    }

    /// Activates the volumes while `body` runs, and deactivates them afterwards in any case.
    func active(_ body: () throws(ResizeError) -> Void) throws(ResizeError) {
        if let twin = VolumeGroupResizer.activeTwin(of: group) { throw ResizeError(.unsupported(reason: twin)) }
        let result = Result { () throws(ResizeError) in
            // -K: also volumes with the flag that skips activation at boot.
            try change("vgchange", ["-a", "y", "-K", "--poll", "n", group.name])
            try body()
        }
        let isReleased = release()
        try result.get()
        guard isReleased else {
            throw ResizeError(
                .resizeFailed(
                    tool: "vgchange", ending: "devices of \(group.name) are still there",
                    lastWords: devices.map(\.name).joined(separator: ", ")), state: job.inDoubt)
        }
    }

    private func release() -> Bool {
        for attempt in 0..<5 {
            // Another program (udev, a probe) may have one open at this moment.
            if attempt > 0 { SystemFacts.sleep(seconds: 0.5) }
            _ = try? job.run(command("vgchange", ["-a", "n", group.name]))
            if devices.isEmpty { return true }
        }
        // Leftovers of a program that was killed half-way: LVM itself may refuse to remove them. Upper ones first.
        for _ in 0..<4 {
            for device in devices.reversed() {
                _ = try? job.run(["dmsetup", "remove", "--force", "--noudevrules", "--noudevsync", device.name])
            }
            if devices.isEmpty { return true }
        }
        return false
    }
}
