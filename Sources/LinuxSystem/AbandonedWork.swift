// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// Programs that outlived the restore that started them: a resize tool finishes even if the restore was killed.
package enum AbandonedWork {
    /// The programs that work on a file or disk, or on a part of it, through a loop device whose process is gone or a
    /// device-mapper node on such a loop device.
    package static func programs(on disk: BlockDevice) -> [String] {
        let directory = DiskDirectory()
        let names = nodes(on: disk, directory)
        guard !names.isEmpty else { return [] }
        let mapped = names.compactMap { Files.text(directory.sys.appending("block/\($0)/dm/name")) }
        let nodes = names.map { "/dev/\($0)" } + mapped.map { "/dev/mapper/\($0)" }
        // Mounted in this namespace too: otherwise every process of another mount namespace would count.
        let isMountedHere = uses(nodes, "self")
        return Files.names(in: "/proc").compactMap { name in
            guard let process = Int32(name), process != SystemFacts.processID,
                !isMountedHere && uses(nodes, name) || holds(nodes, name) || isLVM(at: nodes, name)
            else { return nil }
            return "\(Files.text(FilePath("/proc/\(name)/comm")) ?? "a program") (process \(name))"
        }
    }

    /// Loop devices whose process is gone, and the devices stacked on them, by kernel name, lowest first.
    private static func nodes(on disk: BlockDevice, _ directory: DiskDirectory) -> [String] {
        var nodes = directory.loopDevices(over: disk).filter { LoopDevice.isAbandoned(FilePath("/dev/\($0)")) }
        var index = 0
        while index < nodes.count, nodes.count < 256 {
            let holders = Files.names(in: directory.sys.appending("block/\(nodes[index])/holders"))
            nodes += holders.filter { $0.hasPrefix("dm-") && !nodes.contains($0) }
            index += 1
        }
        return nodes
    }

    /// Removes the device-mapper nodes, mainly logical volumes, that finished work left behind. Nodes in use stay.
    package static func release(on disk: BlockDevice) {
        let directory = DiskDirectory()
        var left: [String] = []
        // A node may be stacked on another: repeat while nodes disappear.
        while case let mapped = nodes(on: disk, directory).filter({ $0.hasPrefix("dm-") }), mapped != left {
            left = mapped
            for node in mapped.reversed() {
                guard let name = Files.text(directory.sys.appending("block/\(node)/dm/name")) else { continue }
                _ = try? ChildProcess.run(
                    ["dmsetup", "remove", "--noudevrules", "--noudevsync", name], timeoutSeconds: 60)
            }
        }
    }

    /// Whether a process is an LVM command that works on a node: `pvmove` has nothing open between its polls.
    private static func isLVM(at nodes: [String], _ process: String) -> Bool {
        let names = ["lvm", "pvmove", "pvresize", "lvextend", "lvreduce", "lvresize", "vgchange"]
        guard names.contains(Files.text(FilePath("/proc/\(process)/comm"))?.trimmed ?? ""),
            let bytes = try? Files.read(FilePath("/proc/\(process)/cmdline"))
        else { return false }
        let words = String(decoding: bytes, as: UTF8.self).split { !($0.isLetter || $0.isNumber || "/-_".contains($0)) }
        return words.contains { nodes.contains(String($0)) }
    }

    /// Whether a node is mounted in a process's mount namespace.
    private static func uses(_ nodes: [String], _ process: String) -> Bool {
        let mounts = MountEntry.parse(Files.text(FilePath("/proc/\(process)/mountinfo")) ?? "")
        return mounts.contains { nodes.contains($0.source) }
    }

    /// Whether a process has a node open.
    private static func holds(_ nodes: [String], _ process: String) -> Bool {
        let folder = FilePath("/proc/\(process)/fd")
        return Files.names(in: folder).contains { Files.linkTarget(folder.appending($0)).map(nodes.contains) ?? false }
    }
}
