// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// Programs that outlived the restore that started them: a resize ends its work also where the restore was killed.
package enum AbandonedWork {
    /// The programs at work on (a part of) a file or disk, through a loop device whose process is gone, or through what
    /// device-mapper made on one.
    package static func programs(on disk: BlockDevice) -> [String] {
        let directory = DiskDirectory()
        let names = nodes(on: disk, directory)
        guard !names.isEmpty else { return [] }
        let mapped = names.compactMap { Files.text(directory.sys.appending("block/\($0)/dm/name")) }
        let nodes = names.map { "/dev/\($0)" } + mapped.map { "/dev/mapper/\($0)" }
        // Mounted also here: not by a process with its own mount namespace, and then every process would count.
        let isMountedHere = uses(nodes, "self")
        return Files.names(in: "/proc").compactMap { name in
            guard let process = Int32(name), process != SystemFacts.processID,
                !isMountedHere && uses(nodes, name) || holds(nodes, name) || isLVM(at: nodes, name)
            else { return nil }
            return "\(Files.text(FilePath("/proc/\(name)/comm")) ?? "a program") (process \(name))"
        }
    }

    /// Loop devices whose process is gone, and what stands on them, by the kernel's names, the lowest first.
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

    /// Takes away what device-mapper made for a work that is over, logical volumes above all: whatever uses one keeps it.
    package static func release(on disk: BlockDevice) {
        let directory = DiskDirectory()
        var left: [String] = []
        // One may stand on another: in turns, as long as that helps.
        while case let mapped = nodes(on: disk, directory).filter({ $0.hasPrefix("dm-") }), mapped != left {
            left = mapped
            for node in mapped.reversed() {
                guard let name = Files.text(directory.sys.appending("block/\(node)/dm/name")) else { continue }
                _ = try? ChildProcess.run(
                    ["dmsetup", "remove", "--noudevrules", "--noudevsync", name], timeoutSeconds: 60)
            }
        }
    }

    /// Whether a process is a command of LVM that was told to work on a node: `pvmove` has nothing open between two looks.
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
