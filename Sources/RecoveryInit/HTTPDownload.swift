// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// One file that arrives by HTTP, front to back, into a pipe. A connection that is lost is made again, and the rest asked
/// for: whoever reads the pipe notices a pause, and nothing else.
final class HTTPDownload: Sendable {
    /// When to be patient, and when not.
    struct Patience: Sendable {
        /// A server that sends nothing for this long, while it could, is given up and asked again.
        var stallSeconds: Double = 60
        /// The pauses before new tries, while no try brings anything.
        var pauses: [Double] = [1, 2, 5, 10, 20, 30, 30, 30, 60]
    }

    /// What the download has come to.
    private struct State {
        var isCancelled = false
        var failure: JobFailure?
    }

    private let address: String
    private let headers: FilePath
    private let patience: Patience
    private let say: @Sendable (String) -> Void
    private let state = Monitor(State())

    /// Prepares a download.
    /// - Parameters:
    ///   - headers: a file for what curl tells of the server's answers.
    ///   - say: hears of lost connections.
    init(
        _ address: String, headers: FilePath, patience: Patience = Patience(),
        say: @escaping @Sendable (String) -> Void
    ) {
        self.address = address
        self.headers = headers
        self.patience = patience
        self.say = say
    }

    /// What went wrong on the way; `nil` where all arrived, or the reader ended first.
    var failure: JobFailure? { state.update { $0.failure } }

    /// Tells it that nobody reads any more.
    func cancel() { state.update { $0.isCancelled = true } }

    private var isCancelled: Bool { state.update { $0.isCancelled } }

    /// Brings the file into `pipe`, and closes that, also where something failed. Blocking: for a thread of its own.
    func run(into pipe: FileDescriptor) {
        do throws(JobFailure) {
            try bring(into: pipe)
        } catch {
            state.update { $0.failure = error }
        }
        try? pipe.close()
    }

    /// How one try ended.
    private enum Ending {
        /// All arrived.
        case whole
        /// The reader has ended.
        case unwanted
        /// It may be tried again; what went wrong.
        case lost(JobFailure)
    }

    private func bring(into pipe: FileDescriptor) throws(JobFailure) {
        var first: HTTPAnswer?
        var position: UInt64 = 0
        var vainTries = 0
        while true {
            let start = position
            let ending = try attempt(&first, &position, into: pipe)
            guard case .lost(let why) = ending else { return }
            // What never began is a wrong address or a machine that is off: nothing was lost.
            guard first != nil else { throw why }
            vainTries = position > start ? 0 : vainTries + 1
            guard vainTries < patience.pauses.count else {
                // Whatever the last answer was: a restore that began is not to be called untouched.
                throw JobFailure(
                    .ioError,
                    "\(why.message). \(vainTries) new tries brought nothing more after byte \(position)")
            }
            let pause = patience.pauses[vainTries]
            say(
                "\(why.message). \(position) bytes have arrived; asking for the rest in \(Int(pause.rounded(.up))) s.")
            guard sleep(pause) else { return }
        }
    }

    /// Sleeps in small pieces; `false` where nobody reads any more.
    private func sleep(_ seconds: Double) -> Bool {
        let end = SystemFacts.monotonicSeconds() + seconds
        while SystemFacts.monotonicSeconds() < end {
            if isCancelled { return false }
            SystemFacts.sleep(seconds: 0.1)
        }
        return true
    }

    /// One connection: from `position` on to the end of the file, or to its own end.
    private func attempt(
        _ first: inout HTTPAnswer?, _ position: inout UInt64, into pipe: FileDescriptor
    ) throws(JobFailure) -> Ending {
        try? Files.remove(headers)
        let ends: (readEnd: FileDescriptor, writeEnd: FileDescriptor)
        let curl: ChildProcess
        do {
            ends = try FileDescriptor.pipe(options: .closeOnExec)
        } catch {
            throw JobFailure(.ioError, "\(address): \(error)")
        }
        defer { try? ends.readEnd.close() }
        do {
            defer { try? ends.writeEnd.close() }
            let arguments = HTTPStream.arguments(
                for: address, headers: headers, from: first == nil ? nil : position, validator: first?.validator)
            curl = try ChildProcess(arguments, output: ends.writeEnd, error: .standardError, newSession: true)
        } catch {
            throw JobFailure(.ioError, "\(address): \(error)")
        }
        let isResumed = first != nil
        var isAccepted = false
        let flow: Flow
        do throws(JobFailure) {
            flow = try receive(
                from: ends.readEnd, into: pipe, &first, &position, isResumed: isResumed, isAccepted: &isAccepted)
        } catch {
            end(curl)
            throw error
        }
        switch flow {
        case .unwanted:
            end(curl)
            return .unwanted
        case .stalled:
            end(curl)
            return .lost(
                JobFailure(
                    .ioError,
                    "\(address): the connection timed out: nothing came for \(Int(patience.stallSeconds)) s"))
        case .ended:
            return try judge(curl.wait(), &first, position, isResumed: isResumed, isAccepted: isAccepted)
        }
    }

    /// How the flow of bytes from curl ended.
    private enum Flow {
        /// curl closed its end.
        case ended
        /// The server sent nothing for too long.
        case stalled
        /// The reader has ended.
        case unwanted
    }

    /// Passes on what curl writes, to its end.
    private func receive(
        from output: FileDescriptor, into pipe: FileDescriptor, _ first: inout HTTPAnswer?, _ position: inout UInt64,
        isResumed: Bool, isAccepted: inout Bool
    ) throws(JobFailure) -> Flow {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var lastByte = SystemFacts.monotonicSeconds()
        while !isCancelled {
            let isReadable = Polling.wait(for: [.init(output)], seconds: 0.5).first?.isReadable ?? false
            if !isReadable {
                if SystemFacts.monotonicSeconds() - lastByte > patience.stallSeconds { return .stalled }
                continue
            }
            let count: Int
            do { count = try buffer.withUnsafeMutableBytes { try output.read(into: $0) } } catch {
                throw JobFailure(.ioError, "\(address): \(error)")
            }
            if count == 0 { return .ended }
            if !isAccepted {
                // curl has told of the header before it passes the first byte of the body on.
                try accept(&first, position, isResumed: isResumed)
                isAccepted = true
            }
            do {
                _ = try buffer.withUnsafeBytes { bytes in
                    try pipe.writeAll(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                }
            } catch {
                // The reader ended; its own status says why.
                return .unwanted
            }
            position += UInt64(count)
            // Not before: a reader that is slow to take bytes is no server that sends none.
            lastByte = SystemFacts.monotonicSeconds()
        }
        return .unwanted
    }

    /// What curl's ending means.
    private func judge(
        _ ending: ChildProcess.Ending, _ first: inout HTTPAnswer?, _ position: UInt64, isResumed: Bool, isAccepted: Bool
    ) throws(JobFailure) -> Ending {
        let answer = answerNow()
        // A part that starts where the file ends: all had arrived, and only the end of the connection was missing.
        if isResumed, answer?.statusCode == 416, first?.wholeLength == position { return .whole }
        let failure = HTTPStream.failure(ending, statusCode: answer?.statusCode, address: address)
        if ending == .exited(0), failure == nil {
            // An empty body, too, must be one that was asked for.
            if !isAccepted { try accept(&first, position, isResumed: isResumed) }
            if let whole = first?.wholeLength, whole != position {
                return .lost(
                    JobFailure(
                        .ioError,
                        "\(address): the body was shorter than announced: \(position) of \(whole) bytes"))
            }
            return .whole
        }
        let error =
            failure
            ?? JobFailure(.ioError, "\(address): the image could not be passed on (\(ending))")
        // Once it has begun, a server that says 404 or 503 may be one that is being restarted.
        return .lost(error)
    }

    /// Checks an answer to which a body belongs.
    private func accept(_ first: inout HTTPAnswer?, _ position: UInt64, isResumed: Bool) throws(JobFailure) {
        func refuse(_ why: String) -> JobFailure { JobFailure(.ioError, "\(address): \(why)") }
        guard let answer = answerNow() else { throw refuse("the server's answer cannot be understood") }
        guard isResumed, let before = first else {
            guard answer.statusCode == 200 else {
                throw HTTPStream.failure(.exited(0), statusCode: answer.statusCode, address: address)
                    ?? refuse("the server answered \(answer.statusCode), not 200")
            }
            first = answer
            return
        }
        let changed =
            "what is at this address has changed since the restore began: the two do not fit together. Start again with the new one."
        if answer.statusCode == 200 {
            // RFC 9110 §13.1.5: the whole file where it is another by now; or a server that knows no ranges.
            guard answer.fits(before) else { throw refuse(changed) }
            throw refuse(
                "the connection was lost after \(position) bytes, and this server cannot send the rest alone (it does not support Range requests). Run the restore again, or use a server that does."
            )
        }
        guard answer.statusCode == 206, answer.partStart == position else {
            throw refuse("asked for the rest from byte \(position) on, the server sent something else")
        }
        guard answer.fits(before) else { throw refuse(changed) }
    }

    private func answerNow() -> HTTPAnswer? {
        (try? Files.read(headers, limit: 1 << 16)).flatMap { HTTPAnswer(header: String(decoding: $0, as: UTF8.self)) }
    }

    private func end(_ curl: consuming ChildProcess) {
        Processes.send(.kill, to: curl.processID)
        _ = curl.wait()
    }
}
