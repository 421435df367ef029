// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A running program that ends with this process, however that ends.
///
/// The kernel sends the signal at the end of the thread that started the program (`PR_SET_PDEATHSIG`), so a thread of
/// its own starts it, reads its output, and lives until the program has ended.
package final class AttachedProgram: Sendable {
    private struct State {
        var processID: Int32?
        var output: [UInt8] = []
        /// The latest part of the output that is longer than what is kept.
        var tail: [UInt8] = []
        var ending: ChildProcess.Ending?
        var failure: SystemCallError?
    }

    /// The kept length of the output, in bytes.
    private static let keptByteCount = 64 << 10
    private let state: Monitor<State>
    private let thread: WorkerThread

    /// - Parameters:
    ///   - kept: descriptors that the program has under the same numbers.
    ///   - deathSignal: sent when this process ends.
    package init(_ arguments: [String], kept: [FileDescriptor] = [], deathSignal: Signal) throws(EmulatorError) {
        let state = Monitor(State())
        self.state = state
        do throws(SystemCallError) {
            thread = try WorkerThread { Self.keep(arguments, kept, deathSignal, state) }
        } catch { throw .system(error) }
        let failure: SystemCallError?? = state.wait { state in
            if let failure = state.failure { return .some(failure) }
            return state.processID == nil && state.ending == nil ? nil : .some(nil)
        }
        if let failure = failure ?? nil {
            thread.join()
            throw .system(failure)
        }
    }

    private static func keep(
        _ arguments: [String], _ kept: [FileDescriptor], _ deathSignal: Signal, _ state: Monitor<State>
    ) {
        do throws(SystemCallError) {
            let pipe = try OwnedDescriptor.pipe()
            let child = try ChildProcess(
                arguments, output: pipe.writeEnd.raw, error: pipe.writeEnd.raw, kept: kept, deathSignal: deathSignal,
                newSession: true)
            let readEnd = try pipe.reading()
            state.update { $0.processID = child.processID }
            read(readEnd.raw, state)
            // Under the lock: a signal must not reach another process with the same id.
            while !state.update({ state in
                guard let ending = child.poll() else { return false }
                (state.ending, state.processID) = (ending, nil)
                return true
            }) {
                SystemFacts.sleep(seconds: 0.01)
            }
        } catch { state.update { $0.failure = error } }
    }

    private static func read(_ end: FileDescriptor, _ state: Monitor<State>) {
        while let part = try? [UInt8](
            unsafeUninitializedCapacity: 4096,
            initializingWith: { buffer, count in count = try end.read(into: UnsafeMutableRawBufferPointer(buffer)) }),
            !part.isEmpty
        {
            state.update { state in
                state.output += part.prefix(max(0, keptByteCount - state.output.count))
                state.tail = Array((state.tail + part).suffix(256))
            }
        }
    }

    /// How the program ended; `nil` while it runs.
    package var ending: ChildProcess.Ending? { state.update { $0.ending } }

    /// The last bytes of its output so far.
    package var tail: [UInt8] { state.update { $0.tail } }

    /// The lines of its output, without control characters.
    package var lines: [String] {
        state.update { $0.output }.split { $0 == 10 || $0 == 13 }.map { line in
            let scalars = String(decoding: line, as: UTF8.self).unicodeScalars
            // U+009B begins a control sequence of a terminal too.
            return String(
                String.UnicodeScalarView(scalars.filter { $0.value >= 32 && !(127..<160).contains($0.value) }))
        }
    }

    package func send(_ signal: Signal) {
        state.update { if let processID = $0.processID { Processes.send(signal, to: processID) } }
    }

    /// Waits for the end of the program, at most this long.
    package func wait(seconds: Double) -> ChildProcess.Ending? {
        let deadline = SystemFacts.monotonicSeconds() + seconds
        while SystemFacts.monotonicSeconds() < deadline {
            if let ending { return ending }
            SystemFacts.sleep(seconds: 0.005)
        }
        return ending
    }

    /// Ends the program: it is asked to, and killed once the time is over.
    package func end(withinSeconds seconds: Double) -> ChildProcess.Ending? {
        if let ending { return ending }
        send(.terminate)
        if let ending = wait(seconds: seconds) { return ending }
        send(.kill)
        return wait(seconds: 5)
    }
}
