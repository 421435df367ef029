// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// A child program, started from an argument array and never through a shell.
package struct ChildProcess: ~Copyable, Sendable {
    package enum Ending: Equatable, Sendable, CustomStringConvertible {
        /// Exited with this status.
        case exited(Int32)
        /// Ended by this signal.
        case signalled(Int32)

        /// A sentence part.
        package var description: String {
            switch self {
            case .exited(let status): "exit status \(status)"
            case .signalled(let number): "killed by signal \(number)"
            }
        }
    }

    /// The result of a program.
    package struct Output: Sendable {
        package var ending: Ending
        /// Its standard output (at most 4 MiB are kept).
        package var standardOutput: [UInt8]
        /// Its standard error (at most 4 MiB are kept).
        package var standardError: [UInt8]

        package var text: String { String(decoding: standardOutput, as: UTF8.self) }
        package var errorText: String { String(decoding: standardError, as: UTF8.self) }
        /// Whether it exited with 0.
        package var succeeded: Bool { ending == .exited(0) }
        /// The last lines of its output, for messages.
        package var lastWords: String {
            let all = (errorText + "\n" + text).split(separator: "\n").map(String.init)
            return all.filter { !$0.allSatisfy(\.isWhitespace) }.suffix(4).joined(separator: " / ")
        }
    }

    package let processID: Int32

    /// The folders of PATH in that environment.
    package static let searchPath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]

    /// Whether a program is installed.
    package static func canFind(_ name: String) -> Bool { searchPath.contains { access("\($0)/\(name)", X_OK) == 0 } }

    /// Starts a program.
    /// - Parameters:
    ///   - arguments: the program (looked up on PATH where it has no slash) and its arguments.
    ///   - environment: the whole environment of the child; a small fixed one by default.
    ///   - input, output, error: descriptors for the child; `nil` is /dev/null.
    ///   - events: the child's descriptor 3; only for a program that is not confined.
    ///   - confinement: the resources that a program of a foreign system can reach. It is killed with the thread that
    ///     starts it.
    ///   - kept: descriptors that the program has under the same numbers; not for a confined program.
    ///   - deathSignal: the signal that the program gets when the *thread* that starts it ends, which the end of this
    ///     process includes, even by SIGKILL; not for a confined program.
    ///   - newSession: whether it gets its own session (with `input` as its terminal where `terminal` is set).
    package init(
        _ arguments: [String], environment: [String] = ChildProcess.plainEnvironment, input: FileDescriptor? = nil,
        output: FileDescriptor? = nil, error: FileDescriptor? = nil, events: FileDescriptor? = nil,
        confinement: Confinement? = nil, kept: [FileDescriptor] = [], deathSignal: Signal? = nil,
        newSession: Bool = false, terminal: Bool = false
    ) throws(SystemCallError) {
        let argv = arguments.map { strdup($0) }
        let envp = environment.map { strdup($0) }
        defer { for string in argv + envp { free(string) } }
        let argumentPointers = argv.map { $0.map { UnsafePointer($0) } } + [nil]
        let environmentPointers = envp.map { $0.map { UnsafePointer($0) } } + [nil]
        var step = "start"
        let result = argumentPointers.withUnsafeBufferPointer { argv in
            environmentPointers.withUnsafeBufferPointer { envp in
                guard let confinement else {
                    return kept.map(\.rawValue).withUnsafeBufferPointer { kept in
                        var attachment = rf_attachment(
                            kept: kept.baseAddress, kept_count: Int32(kept.count),
                            death_signal: deathSignal?.rawValue ?? 0)
                        return rf_spawn(
                            argv.baseAddress, envp.baseAddress, input?.rawValue ?? -1, output?.rawValue ?? -1,
                            error?.rawValue ?? -1, events?.rawValue ?? -1, newSession ? 1 : 0, terminal ? 1 : 0,
                            &attachment)
                    }
                }
                return confinement.root.string.withCString { root in
                    confinement.devices.string.withCString { devices in
                        var given = rf_confinement(
                            root: root, devices: devices, capabilities: confinement.capabilities.rawValue)
                        var failed: UnsafePointer<CChar>?
                        let result = rf_spawn_confined(
                            argv.baseAddress, envp.baseAddress, input?.rawValue ?? -1, output?.rawValue ?? -1,
                            error?.rawValue ?? -1, &given, &failed)
                        if let failed { step = String(cString: failed) }
                        return result
                    }
                }
            }
        }
        processID = try check(result, step, arguments.first ?? "nothing")
    }

    /// No locale, no pager, no terminal control: parsers of tool output need this.
    package static let plainEnvironment = [
        "PATH=\(searchPath.joined(separator: ":"))", "LC_ALL=C", "HOME=/root", "TERM=linux",
        // e2fsck and others must not wait for udev in the recovery environment.
        "DM_DISABLE_UDEV=1", "SWIFT_BACKTRACE=enable=no",
    ]

    /// Waits for the program to end.
    ///
    /// The corresponding C function is `waitpid`.
    package consuming func wait() -> Ending { Self.waitForEnd(of: processID) }

    private static func waitForEnd(of processID: Int32) -> Ending {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) < 0, errno == EINTR {}
        return ending(status)
    }

    /// The ending, or `nil` while the program runs.
    package borrowing func poll() -> Ending? {
        var status: Int32 = 0
        return waitpid(processID, &status, WNOHANG) == processID ? Self.ending(status) : nil
    }

    static func ending(_ status: Int32) -> Ending {
        let signalNumber = status & 0x7F
        return signalNumber == 0 ? .exited(status >> 8 & 0xFF) : .signalled(signalNumber)
    }

    /// Runs a program to its end and collects its output.
    /// - Parameters:
    ///   - input: bytes for its standard input.
    ///   - confinement: the resources that a program of a foreign system can reach.
    ///   - timeoutSeconds: the time limit. Past it the program is killed, and its ending shows the signal.
    package static func run(
        _ arguments: [String], input: [UInt8] = [], environment: [String] = plainEnvironment,
        confinement: Confinement? = nil, timeoutSeconds: Double = 3600
    ) throws(SystemCallError) -> Output {
        let inputPipe = try OwnedDescriptor.pipe()
        let outputPipe = try OwnedDescriptor.pipe()
        let errorPipe = try OwnedDescriptor.pipe()
        let child = try ChildProcess(
            arguments, environment: environment, input: inputPipe.readEnd.raw, output: outputPipe.writeEnd.raw,
            error: errorPipe.writeEnd.raw, confinement: confinement, newSession: true)
        try Self.close(inputPipe.readEnd)
        try Self.close(outputPipe.writeEnd)
        try Self.close(errorPipe.writeEnd)
        let deadline = SystemFacts.monotonicSeconds() + timeoutSeconds
        let pump = Pump(input: input, timeoutSeconds: timeoutSeconds)
        let inputEnd = inputPipe.writeEnd.release()
        let (processID, outputEnd, errorEnd) = (child.processID, outputPipe.readEnd.raw, errorPipe.readEnd.raw)
        let name = arguments.first?.split(separator: "/").last.map(String.init) ?? ""
        return RunningPrograms.during(.init(name: name, processID: processID, isConfined: confinement != nil)) {
            let (standardOutput, standardError, timedOut) = pump.run(inputEnd, outputEnd, errorEnd)
            // A program may close its outputs long before it ends.
            let ending = timedOut ? nil : Self.ending(of: processID, before: deadline)
            if ending == nil { kill(-processID, SIGKILL) }
            return Output(
                ending: ending ?? waitForEnd(of: processID), standardOutput: standardOutput,
                standardError: standardError)
        }
    }

    /// Waits for the program to end; `nil` if it still runs at the deadline.
    private static func ending(of processID: Int32, before deadline: Double) -> Ending? {
        var pause = 0.001
        while true {
            var status: Int32 = 0
            let result = waitpid(processID, &status, WNOHANG)
            if result == processID { return ending(status) }
            if result < 0, errno != EINTR { return waitForEnd(of: processID) }
            if SystemFacts.monotonicSeconds() >= deadline { return nil }
            SystemFacts.sleep(seconds: pause)
            pause = min(2 * pause, 0.1)
        }
    }

    private static func close(_ descriptor: consuming OwnedDescriptor) throws(SystemCallError) {
        try descriptor.close()
    }

    /// Feeds and drains a child's three pipes at the same time.
    private struct Pump {
        let input: [UInt8]
        let timeoutSeconds: Double
        static let keptByteCount = 4 << 20

        func run(
            _ inputEnd: FileDescriptor, _ outputEnd: FileDescriptor, _ errorEnd: FileDescriptor
        ) -> ([UInt8], [UInt8], timedOut: Bool) {
            var collected: [[UInt8]] = [[], []]
            var sent = 0
            var inputIsOpen = true
            if input.isEmpty {
                try? inputEnd.close()
                inputIsOpen = false
            } else {
                _ = fcntl(inputEnd.rawValue, F_SETFL, O_NONBLOCK)
            }
            defer { if inputIsOpen { try? inputEnd.close() } }
            var open = [true, true]
            let deadline = SystemFacts.monotonicSeconds() + timeoutSeconds
            while open[0] || open[1] {
                let left = deadline - SystemFacts.monotonicSeconds()
                if left <= 0 { return (collected[0], collected[1], true) }
                var polled = [
                    pollfd(fd: open[0] ? outputEnd.rawValue : -1, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: open[1] ? errorEnd.rawValue : -1, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: inputIsOpen ? inputEnd.rawValue : -1, events: Int16(POLLOUT), revents: 0),
                ]
                guard Glibc.poll(&polled, 3, Int32(min(left, 60) * 1000) + 1) > 0 else { continue }
                for (index, end) in [outputEnd, errorEnd].enumerated() where polled[index].revents != 0 {
                    let part = try? [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
                        count = try end.read(into: UnsafeMutableRawBufferPointer(buffer))
                    }
                    guard let part, !part.isEmpty else {
                        open[index] = false
                        continue
                    }
                    if collected[index].count < Self.keptByteCount { collected[index] += part }
                }
                if inputIsOpen, polled[2].revents != 0 {
                    let count = input.withUnsafeBytes {
                        (try? inputEnd.write(UnsafeRawBufferPointer(rebasing: $0[sent...]))) ?? -1
                    }
                    sent += max(count, 0)
                    if count < 0 && errno != EAGAIN || sent == input.count {
                        try? inputEnd.close()
                        inputIsOpen = false
                    }
                }
            }
            return (collected[0], collected[1], false)
        }
    }
}
