// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization
import SystemPackage

/// The programs that `ChildProcess.run` waits for: what a `StallWatch` looks at once the work is to end.
enum RunningPrograms {
    /// One of them.
    struct Program: Hashable {
        /// Its name, without folders.
        var name: String
        /// Its process, which leads a session of its own.
        var processID: Int32
        /// Whether it ends with this process, and all that it has half done with it.
        var isConfined = false
    }

    /// What the processes of a program do at one moment.
    struct Activity: Equatable {
        /// Processor time that they took, bytes that they read and wrote, calls that they made: a number that grows.
        var amount: UInt64 = 0
        /// Whether one of them waits uninterruptibly, for a disk most of the time, and none runs.
        var isWaiting = false
        /// What the disks below the nodes that they have open have done (`DiskDirectory.activity`).
        var disks: [String: UInt64] = [:]
    }

    private static let all = Mutex<[Program]>([])

    /// Those that have not ended.
    static var now: [Program] { all.withLock { $0 } }

    /// Notes a program while `body` waits for it.
    static func during<Result>(_ program: Program, _ body: () -> Result) -> Result {
        all.withLock { $0.append(program) }
        defer { all.withLock { $0.removeAll { $0 == program } } }
        return body()
    }

    /// What the processes of a program's session do, from `/proc/PID/stat`, `/proc/PID/io` and `/proc/PID/fd` (proc(5)).
    static func activity(of program: Program) -> Activity {
        var activity = Activity()
        var runs = false
        for process in Files.names(in: "/proc") where Int32(process) != nil {
            guard let text = Files.text(FilePath("/proc/\(process)/stat")), let end = text.lastIndex(of: ")") else {
                continue
            }
            let fields = text[text.index(after: end)...].split(separator: " ")
            // Fields 3 (state), 6 (session), 14 and 15 (time in user and kernel mode).
            guard fields.count > 12, fields[3] == "\(program.processID)" else { continue }
            if fields[0] == "R" { runs = true }
            if fields[0] == "D" { activity.isWaiting = true }
            activity.amount &+= (UInt64(fields[11]) ?? 0) &+ (UInt64(fields[12]) ?? 0)
            for line in (Files.text(FilePath("/proc/\(process)/io")) ?? "").split(separator: "\n") {
                activity.amount &+= line.split(separator: " ").last.flatMap { UInt64($0) } ?? 0
            }
            // Only nodes are asked what they are: of a file, that may take as long as its disk.
            let folder = FilePath("/proc/\(process)/fd")
            for node in Set(Files.names(in: folder).compactMap { Files.linkTarget(folder.appending($0)) })
            where node.hasPrefix("/dev/") {
                guard let status = try? Stat(FilePath(node)), status.type == .blockSpecial else { continue }
                for disk in DiskPresence.disks(below: UInt64(status.specialDeviceID.rawValue)) {
                    activity.disks[disk.name] = disk.activity
                }
            }
        }
        if runs { activity.isWaiting = false }
        return activity
    }
}
