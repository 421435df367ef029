// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization
import SystemPackage

/// A running program that turns its standard input into its standard output, such as `gzip -dc`.
///
/// A thread feeds it. Both pipes close with this process, however it ends, and the program ends with them.
package final class FilterProgram: Sendable {
    /// The result of a program whose output was read to its end.
    package struct Result {
        package var ending: ChildProcess.Ending
        /// The last line of its standard error.
        package var lastWords: String
        /// Why it was not fed to the end of its input; `nil` also if it did not take all of it.
        package var feedFailure: (any Error)?
    }

    private final class Feed: Sendable {
        let failure = Mutex<(any Error)?>(nil)
    }

    private let name: String
    private let output: OwnedDescriptor
    private let words: OwnedDescriptor
    private let feeder: WorkerThread
    private let feed: Feed
    /// `nil` once it was waited for: the number may belong to another process then.
    private let processID: Mutex<Int32?>

    private static let feedByteCount = 256 << 10
    /// The part of its standard error that is read, in bytes.
    private static let longestWords = 4096

    /// Starts a program.
    /// - Parameter feed: fills the buffer with the next bytes of the input and returns their number, 0 at the end. Called
    ///   by the feeding thread alone.
    package init(
        _ arguments: [String], feed next: @escaping @Sendable (UnsafeMutableRawBufferPointer) throws -> Int
    ) throws(SystemCallError) {
        name = arguments.first ?? ""
        words = try OwnedDescriptor.memory("standard error", byteCount: 0)
        let input = try OwnedDescriptor.pipe()
        let output = try OwnedDescriptor.pipe()
        let child = try ChildProcess(
            arguments, input: input.readEnd.raw, output: output.writeEnd.raw, error: words.raw, newSession: true)
        processID = Mutex(child.processID)
        self.output = output.readEnd
        let feed = Feed()
        self.feed = feed
        let writeEnd = input.writeEnd.release()
        do throws(SystemCallError) {
            feeder = try WorkerThread { Self.pump(next, into: writeEnd, feed) }
        } catch {
            try? writeEnd.close()
            kill(child.processID, SIGKILL)
            _ = child.wait()
            throw error
        }
    }

    deinit {
        stop()
        if processID.withLock({ $0 }) != nil { _ = finish() }
    }

    private static func pump(
        _ next: (UnsafeMutableRawBufferPointer) throws -> Int, into pipe: FileDescriptor, _ feed: Feed
    ) {
        defer { try? pipe.close() }
        var bytes = [UInt8](repeating: 0, count: feedByteCount)
        do {
            while true {
                let count = try bytes.withUnsafeMutableBytes { try next($0) }
                guard count > 0 else { return }
                // A program that ended early says why itself.
                let taken = bytes.withUnsafeBytes {
                    try? pipe.writeAll(UnsafeRawBufferPointer(rebasing: $0[..<count]))
                }
                guard taken == count else { return }
            }
        } catch { feed.failure.withLock { $0 = error } }
    }

    /// The next bytes of its output.
    /// - Returns: the number of bytes; 0 at the end.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
        do { return try output.raw.read(into: buffer) } catch {
            throw SystemCallError("read", "the output of \(name)", error as? Errno ?? .ioError)
        }
    }

    /// Ends the program; its output ends then too. From any thread.
    package func stop() {
        processID.withLock { if let process = $0 { kill(process, SIGKILL) } }
    }

    /// Waits for the program. Call once, after its output has ended.
    package func finish() -> Result {
        var status: Int32 = 0
        if let process = processID.withLock({ $0 }) {
            // Not yet reaped, so that `stop` can still reach it.
            var info = siginfo_t()
            while waitid(P_PID, id_t(process), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
            processID.withLock { $0 = nil }
            while waitpid(process, &status, 0) < 0, errno == EINTR {}
            feeder.join()
        }
        var text = [UInt8](repeating: 0, count: Self.longestWords)
        let count = text.withUnsafeMutableBytes { (try? words.raw.read(fromAbsoluteOffset: 0, into: $0)) ?? 0 }
        let lines = String(decoding: text[..<count], as: UTF8.self).split(separator: "\n")
        let last = lines.last { !$0.allSatisfy(\.isWhitespace) }
        return Result(
            ending: ChildProcess.ending(status), lastWords: last.map(String.init) ?? "",
            feedFailure: feed.failure.withLock { $0 })
    }
}
