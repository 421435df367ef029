// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import FoundationEssentials
import JobModel
import LinuxSystem
import SystemPackage

/// The end of a job in a child: the exit status of the process, and its last report.
struct JobEnd {
    /// The exit status in shell form: 128 and more for a signal.
    var status: Int32
    /// The last event; `nil` if the child ended without it, for example killed.
    var report: Report?
}

/// A job run by a child: the child gets the job as a file, and reports its end by events. A Swift trap ends the child,
/// not the session.
final class FollowedJob {
    let child: ChildProcess
    private let last = Monitor<Report?>(nil)
    private let isOver = Monitor(false)
    private let reader: WorkerThread

    /// Starts the job.
    /// - Parameter input: the child's standard input.
    init(_ job: JobFile, input: FileDescriptor? = nil) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // In memory, like all of /run. It holds no password.
        try Files.write(
            [UInt8](try encoder.encode(job)), to: RecoveryPaths.job, permissions: [.ownerReadWrite])
        let pipe = try FileDescriptor.pipe(options: .closeOnExec)
        let (events, last, isOver) = (pipe.readEnd, last, isOver)
        do {
            // Started before the child: without a reader, the events of the child would be lost.
            reader = try WorkerThread {
                Self.follow(events, last, isOver)
                try? events.close()
            }
        } catch {
            try? pipe.readEnd.close()
            try? pipe.writeEnd.close()
            throw error
        }
        // Only the child may hold the write end: its exit ends the events.
        defer { try? pipe.writeEnd.close() }
        do {
            child = try ChildProcess(
                [RecoveryPaths.program, "run-job", RecoveryPaths.job.string, "--events", "3"], input: input,
                output: .standardOutput, error: .standardError, events: pipe.writeEnd, newSession: true)
        } catch {
            isOver.update { $0 = true }
            throw error
        }
    }

    /// The longest line accepted as an event, in bytes.
    private static let longestLine = 1 << 22

    /// Reads events until the final one, the end of the pipe, or the end of the child. A process that the kernel blocks
    /// in a call on a dead disk keeps its end of the pipe open for as long. Invalid events are ignored, as the child
    /// may crash at any point.
    private static func follow(_ events: FileDescriptor, _ last: Monitor<Report?>, _ isOver: Monitor<Bool>) {
        var line: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let wasOver = isOver.update { $0 }
            guard Polling.wait(for: [.init(events)], seconds: 0.2).first?.isReadable == true else {
                if wasOver { return }
                continue
            }
            guard let count = try? part.withUnsafeMutableBytes({ try events.read(into: $0) }), count > 0 else { return }
            for byte in part[..<count] {
                guard byte == 10 else {
                    if line.count < longestLine { line.append(byte) }
                    continue
                }
                if let report = report(line) {
                    last.update { $0 = report }
                    return
                }
                line.removeAll(keepingCapacity: true)
            }
        }
    }

    /// The report of a `finished` event; `nil` otherwise.
    static func report(_ line: [UInt8]) -> Report? {
        guard let event = try? JSONDecoder().decode(Event.self, from: Data(line)), case .finished(let report) = event
        else { return nil }
        return report
    }

    /// Waits for the end of the child.
    func waited() -> JobEnd {
        while true {
            if let ending = child.poll() { return end(ending) }
            SystemFacts.sleep(seconds: 0.05)
        }
    }

    /// The result, once the child has ended.
    /// - Parameter ending: the exit status of the child.
    func end(_ ending: ChildProcess.Ending) -> JobEnd {
        isOver.update { $0 = true }
        reader.join()
        return JobEnd(status: JobRunner.status(ending), report: last.update { $0 })
    }
}
