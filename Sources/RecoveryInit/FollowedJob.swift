// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import FoundationEssentials
import JobModel
import LinuxSystem
import SystemPackage

/// How a job in a child ended: by its process, and by what it said last.
struct JobEnd {
    /// The exit status as a shell gives it: 128 and more for a signal.
    var status: Int32
    /// The last event; `nil` where the child ended without it, as one that was killed does.
    var report: Report?
}

/// A job that a child does: it gets the job as a file, and tells by events how it ends. What a Swift trap ends is the child, not the
/// session.
final class FollowedJob {
    let child: ChildProcess
    private let last = Monitor<Report?>(nil)
    private let isOver = Monitor(false)
    private let reader: WorkerThread

    /// Starts it.
    /// - Parameter input: the child's standard input.
    init(_ job: JobFile, input: FileDescriptor? = nil) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // In memory, as all of /run is. It holds no password.
        try Files.write(
            [UInt8](try encoder.encode(job)), to: RecoveryPaths.job, permissions: [.ownerReadWrite])
        let pipe = try FileDescriptor.pipe(options: .closeOnExec)
        let (events, last, isOver) = (pipe.readEnd, last, isOver)
        do {
            // First of both: a child without a reader would be at work unseen.
            reader = try WorkerThread {
                Self.follow(events, last, isOver)
                try? events.close()
            }
        } catch {
            try? pipe.readEnd.close()
            try? pipe.writeEnd.close()
            throw error
        }
        // Only the child may hold the end to write: its end is the end of the events.
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

    /// The longest line that is taken for an event, in bytes.
    private static let longestLine = 1 << 22

    /// Reads events: to the last one, to their end, or until the child is over. A process that the kernel keeps in a call on a dead
    /// disk holds its end of the pipe for as long as that lasts. What is no event is left out: the child is a program that may crash
    /// anywhere.
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

    /// The report of a `finished` event; `nil` for all else.
    static func report(_ line: [UInt8]) -> Report? {
        guard let event = try? JSONDecoder().decode(Event.self, from: Data(line)), case .finished(let report) = event
        else { return nil }
        return report
    }

    /// Waits for the child's end.
    func waited() -> JobEnd {
        while true {
            if let ending = child.poll() { return end(ending) }
            SystemFacts.sleep(seconds: 0.05)
        }
    }

    /// What came of it, once the child has ended.
    /// - Parameter ending: the child's end.
    func end(_ ending: ChildProcess.Ending) -> JobEnd {
        isOver.update { $0 = true }
        reader.join()
        return JobEnd(status: JobRunner.status(ending), report: last.update { $0 })
    }
}
