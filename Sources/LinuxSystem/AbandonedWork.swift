// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// Programs that outlived the restore that started them: a resize ends its work also where the restore was killed.
public enum AbandonedWork {
    /// The programs at work on (a part of) a file or disk, through a loop device whose process is gone.
    public static func programs(on disk: BlockDevice) -> [String] {
        let nodes = DiskDirectory().loopDevices(over: disk).map { "/dev/\($0)" }
            .filter { LoopDevice.isAbandoned(FilePath($0)) }
        guard !nodes.isEmpty else { return [] }
        // Mounted also here: not by a process with its own mount namespace, and then every process would count.
        let isMountedHere = uses(nodes, "self")
        return Files.names(in: "/proc").compactMap { name in
            guard let process = Int32(name), process != SystemFacts.processID,
                !isMountedHere && uses(nodes, name) || holds(nodes, name)
            else { return nil }
            return "\(Files.text(FilePath("/proc/\(name)/comm")) ?? "a program") (process \(name))"
        }
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
