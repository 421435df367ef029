// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Operations
import SystemPackage

/// Results go to standard output, everything else to standard error.
enum Console {
    /// Where operations tell what they do.
    static let events = TerminalEvents()

    /// A line for a person.
    static func message(_ text: String) { write(text + "\n", to: .standardError) }

    /// A result. One that is lost is a failure, but for a standard output that was closed: that asks for silence.
    static func result(_ text: String) throws {
        do { try print(text) } catch  where error == .badFileDescriptor {} catch { throw lost(error) }
    }

    /// A result as one JSON object, which was asked for.
    static func json(_ value: some Encodable) throws {
        let text = String(decoding: try JSONText.encode(value, pretty: true), as: UTF8.self)
        do { try print(text) } catch { throw lost(error) }
    }

    private static func print(_ text: String) throws(Errno) {
        do { _ = try FileDescriptor.standardOutput.writeAll(Array((text + "\n").utf8)) } catch {
            throw error as? Errno ?? .ioError
        }
    }

    private static func lost(_ reason: Errno) -> JobFailure {
        JobFailure(.ioError, "could not write the result to standard output: \(reason.sentence)")
    }

    static func write(_ text: String, to descriptor: FileDescriptor) {
        // Nobody is left to be told where this fails.
        _ = try? descriptor.writeAll(Array(text.utf8))
    }

    /// A line that a person types on the terminal; `nil` at its end.
    /// - Parameter useTerminal: asks on /dev/tty because standard input is the image.
    static func ask(_ question: String, useTerminal: Bool) -> String? {
        guard useTerminal else {
            write(question, to: .standardError)
            return readLine(.standardInput)
        }
        guard let terminal = try? OwnedDescriptor.open("/dev/tty", .readWrite) else { return nil }
        write(question, to: terminal.raw)
        return readLine(terminal.raw)
    }

    private static func readLine(_ input: FileDescriptor) -> String? {
        var line: [UInt8] = []
        while line.count < 1024 {
            var byte: UInt8 = 0
            let count = withUnsafeMutableBytes(of: &byte) { try? input.read(into: $0, retryOnInterrupt: false) }
            guard count == 1 else { return line.isEmpty ? nil : String(decoding: line, as: UTF8.self) }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
        return nil
    }
}

/// Shows how far a work is: a line that changes on a terminal; elsewhere one soon after it began, and one every 10 s.
final class ProgressDisplay {
    private let progress: Progress
    private let isEnded = Monitor(false)
    private var thread: WorkerThread?

    init(_ progress: Progress) {
        self.progress = progress
        let isTerminal = SystemFacts.isTerminal(.standardError)
        let isEnded = self.isEnded
        thread = try? WorkerThread { Self.show(progress, isTerminal, isEnded) }
    }

    /// Stops showing.
    func end() {
        isEnded.update { $0 = true }
        thread?.join()
        thread = nil
    }

    private static func show(_ progress: Progress, _ isTerminal: Bool, _ isEnded: Monitor<Bool>) {
        let interval = isTerminal ? 0.2 : 10
        var phase = ""
        var phaseStart = SystemFacts.monotonicSeconds()
        var lastShown = phaseStart
        var isSaid = false
        var (lastDone, lastMove) = (UInt64(0), phaseStart)
        while !isEnded.update({ $0 }) {
            // Short naps: the end must not wait for the interval.
            SystemFacts.sleep(seconds: 0.05)
            let now = SystemFacts.monotonicSeconds()
            if progress.phase != phase {
                phase = progress.phase
                phaseStart = now
                isSaid = false
                lastMove = now
            }
            if progress.done != lastDone { (lastDone, lastMove) = (progress.done, now) }
            // That it began is news, and earlier of a program at work, which tells nothing until it ends.
            let isNews = !isSaid && now - phaseStart >= (progress.total == 0 ? 0.5 : 2)
            guard now - lastShown >= interval || isNews, !phase.isEmpty else { continue }
            lastShown = now
            isSaid = true
            let line = text(progress, phase, now - phaseStart, still: now - lastMove)
            Console.write(isTerminal ? "\r\u{1B}[K\(line)" : "\(line)\n", to: .standardError)
        }
        if isTerminal { Console.write("\r\u{1B}[K", to: .standardError) }
    }

    /// - Parameter still: seconds since the last byte.
    static func text(_ progress: Progress, _ phase: String, _ seconds: Double, still: Double) -> String {
        let (done, total) = (progress.done, progress.total)
        guard total > 0 else { return seconds < 1 ? phase : "\(phase), \(duration(Int(seconds)))" }
        var line = "\(phase): \(ByteText.rounded(done)) of \(ByteText.rounded(total)) (\(percent(done, of: total)) %)"
        guard seconds > 0.5, done > 0 else { return still < 10 ? line : line + ", no byte for \(Int(still)) s" }
        let rate = Double(done) / seconds
        line += ", \(ByteText.rate(done, seconds: seconds))"
        // Of what stands still, a forecast would grow and grow.
        if done < total, still >= 10 { return line + ", no byte for \(Int(still)) s" }
        // More than a year is no forecast.
        if done < total, case let left = Double(total - done) / rate, left < 365 * 86400 {
            line += ", \(duration(Int(left) + 1)) left"
        }
        return line
    }

    /// Also of numbers so large that a hundred times as much has no place in 64 bits.
    private static func percent(_ done: UInt64, of total: UInt64) -> UInt64 {
        total.dividingFullWidth(min(done, total).multipliedFullWidth(by: 100)).quotient
    }

    static func duration(_ seconds: Int) -> String {
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let text = "\(two(seconds % 3600 / 60)):\(two(seconds % 60))"
        return seconds >= 3600 ? "\(seconds / 3600):\(text)" : text
    }
}
