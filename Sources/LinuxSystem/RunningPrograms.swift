// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization
import SystemPackage

/// The programs that `ChildProcess.run` waits for; `StallWatch` checks them once the work must end.
enum RunningPrograms {
    /// A running program.
    struct Program: Hashable {
        /// Its name, without folders.
        var name: String
        /// Its process id; the process leads its own session.
        var processID: Int32
        /// Whether it ends with this process, even with its work half done.
        var isConfined = false
    }

    /// The activity of a program's processes at one moment.
    struct Activity: Equatable {
        /// Processor time, bytes read and written, and calls, as one growing number.
        var amount: UInt64 = 0
        /// Whether one of them waits uninterruptibly, usually for a disk, and none runs.
        var isWaiting = false
        /// The activity of the disks below its open nodes (`DiskDirectory.activity`).
        var disks: [String: UInt64] = [:]
    }

    private static let all = Mutex<[Program]>([])

    /// The programs that have not ended.
    static var now: [Program] { all.withLock { $0 } }

    /// Records a program while `body` waits for it.
    static func during<Result>(_ program: Program, _ body: () -> Result) -> Result {
        all.withLock { $0.append(program) }
        defer { all.withLock { $0.removeAll { $0 == program } } }
        return body()
    }

    /// The activity of the processes in a program's session, from `/proc/PID/stat`, `/proc/PID/io` and
    /// `/proc/PID/fd` (proc(5)).
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
            // Only device nodes are examined: for a file, that could block as long as its disk.
            let folder = FilePath("/proc/\(process)/fd")
            for node in Set(Files.names(in: folder).compactMap { Files.linkTarget(folder.appending($0)) })
            where node.hasPrefix("/dev/") {
                guard let status = try? Stat(FilePath(node)), status.type == .blockSpecial else { continue }
                // An open of a node would wait for the same disk as the program.
                let number = UInt64(status.specialDeviceID.rawValue)
                for disk in DiskPresence.disks(below: number, opening: false) {
                    activity.disks[disk.name] = disk.activity
                }
            }
        }
        if runs { activity.isWaiting = false }
        return activity
    }
}
