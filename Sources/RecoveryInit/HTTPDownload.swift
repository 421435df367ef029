// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// A sequential download of one file by HTTP into a pipe. A lost connection is re-established and the rest requested;
/// the reader of the pipe only notices a pause.
final class HTTPDownload: Sendable {
    /// Timeouts and retry pauses.
    struct Patience: Sendable {
        /// After this time without data from a server, despite readiness to receive, the connection is closed and
        /// retried.
        var stallSeconds: Double = 60
        /// The pauses before retries, as long as retries make no progress.
        var pauses: [Double] = [1, 2, 5, 10, 20, 30, 30, 30, 60]
    }

    /// The state of the download.
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
    ///   - headers: a file for the response headers from curl.
    ///   - say: receives messages about lost connections.
    init(
        _ address: String, headers: FilePath, patience: Patience = Patience(),
        say: @escaping @Sendable (String) -> Void
    ) {
        self.address = address
        self.headers = headers
        self.patience = patience
        self.say = say
    }

    /// The error of the download; `nil` if it completed, or the reader ended first.
    var failure: JobFailure? { state.update { $0.failure } }

    /// Ends the download because there is no reader any more.
    func cancel() { state.update { $0.isCancelled = true } }

    private var isCancelled: Bool { state.update { $0.isCancelled } }

    /// Downloads the file into `pipe`, and closes that, also after an error. Blocking: call on a separate thread.
    func run(into pipe: FileDescriptor) {
        do throws(JobFailure) {
            try bring(into: pipe)
        } catch {
            state.update { $0.failure = error }
        }
        try? pipe.close()
    }

    /// The end of one attempt.
    private enum Ending {
        /// The whole file was received.
        case whole
        /// The reader has ended.
        case unwanted
        /// It can be retried; the error.
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
            // If no data was received, the address is wrong or the machine is off: nothing was lost.
            guard first != nil else { throw why }
            vainTries = position > start ? 0 : vainTries + 1
            guard vainTries < patience.pauses.count else {
                // Always an I/O error, independent of the last response: the status of a restore that began must not
                // mean an untouched disk.
                throw JobFailure(
                    .ioError,
                    "\(why.message). \(vainTries) retries received nothing after byte \(position)")
            }
            let pause = patience.pauses[vainTries]
            say(
                "\(why.message). \(position) bytes have arrived; asking for the rest in \(Int(pause.rounded(.up))) s.")
            guard sleep(pause) else { return }
        }
    }

    /// Sleeps in small pieces; `false` if there is no reader any more.
    private func sleep(_ seconds: Double) -> Bool {
        let end = SystemFacts.monotonicSeconds() + seconds
        while SystemFacts.monotonicSeconds() < end {
            if isCancelled { return false }
            SystemFacts.sleep(seconds: 0.1)
        }
        return true
    }

    /// One connection: from `position` on to the end of the file, or to the end of the connection.
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
                    "\(address): the connection timed out: no data for \(Int(patience.stallSeconds)) s"))
        case .ended:
            return try judge(curl.wait(), &first, position, isResumed: isResumed, isAccepted: isAccepted)
        }
    }

    /// The end of the data from curl.
    private enum Flow {
        /// curl closed its end.
        case ended
        /// The server sent nothing for too long.
        case stalled
        /// The reader has ended.
        case unwanted
    }

    /// Forwards the output of curl, to its end.
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
                // curl writes the header before it passes on the first byte of the body.
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
            // Updated only now: a slow reader must not count as a stalled server.
            lastByte = SystemFacts.monotonicSeconds()
        }
        return .unwanted
    }

    /// Interprets the exit of curl.
    private func judge(
        _ ending: ChildProcess.Ending, _ first: inout HTTPAnswer?, _ position: UInt64, isResumed: Bool, isAccepted: Bool
    ) throws(JobFailure) -> Ending {
        let answer = answerNow()
        // A range that starts at the end of the file: everything was received before the connection was lost.
        if isResumed, answer?.statusCode == 416, first?.wholeLength == position { return .whole }
        let failure = HTTPStream.failure(ending, statusCode: answer?.statusCode, address: address)
        if ending == .exited(0), failure == nil {
            // An empty body must belong to the requested version too.
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
        // After a successful start, a 404 or 503 may come from a restarting server.
        return .lost(error)
    }

    /// Checks a response with a body.
    private func accept(_ first: inout HTTPAnswer?, _ position: UInt64, isResumed: Bool) throws(JobFailure) {
        func refuse(_ why: String) -> JobFailure { JobFailure(.ioError, "\(address): \(why)") }
        guard let answer = answerNow() else { throw refuse("the server's response is invalid") }
        guard isResumed, let before = first else {
            guard answer.statusCode == 200 else {
                throw HTTPStream.failure(.exited(0), statusCode: answer.statusCode, address: address)
                    ?? refuse("the server answered \(answer.statusCode), not 200")
            }
            first = answer
            return
        }
        let changed =
            "the file at this address has changed since the restore began: its parts do not match. Start the restore again with the new file."
        if answer.statusCode == 200 {
            // RFC 9110 §13.1.5: the whole file if it has changed; or a server without range support.
            guard answer.fits(before) else { throw refuse(changed) }
            throw refuse(
                "the connection was lost after \(position) bytes, and this server cannot send only the rest (it does not support Range requests). Run the restore again, or use a server that does."
            )
        }
        guard answer.statusCode == 206, answer.partStart == position else {
            throw refuse("the server did not send the requested range from byte \(position) on")
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
