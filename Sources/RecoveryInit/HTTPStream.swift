// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// An image that arrives by HTTP: curl downloads it, and a Reforge command reads it from a pipe.
enum HTTPStream {
    /// curl's arguments. No redirects: an image comes only from the address in the settings.
    /// - Parameters:
    ///   - headers: the file for the response header.
    ///   - position: the first byte to request; `nil` for the whole file.
    ///   - validator: the identifier of the version of the requested part.
    static func arguments(
        for address: String, headers: FilePath, from position: UInt64? = nil, validator: String? = nil
    ) -> [String] {
        var arguments = [
            "curl", "--fail", "--silent", "--show-error", "--globoff", "--proto", "=http", "--noproxy", "*",
            "--connect-timeout", "30", "--dump-header", headers.string, "--output", "-",
        ]
        if let position { arguments += ["--range", "\(position)-"] }
        if position != nil, let validator { arguments += ["--header", "If-Range: \(validator)"] }
        return arguments + ["--url", address]
    }

    /// The status code in the first line of a response header; `nil` if there is none.
    static func statusCode(header: String) -> Int? {
        // If there are several responses (100 Continue), the last one counts.
        let lines = header.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("HTTP/") }
        return lines.last?.split(separator: " ").dropFirst().first.flatMap { Int($0) }.flatMap {
            (100...999).contains($0) ? $0 : nil
        }
    }

    /// The error of a download, from curl's exit status (curl(1), EXIT CODES) and the server's response; `nil` if there
    /// is none, or the reader ended first.
    static func failure(_ ending: ChildProcess.Ending, statusCode: Int?, address: String) -> JobFailure? {
        func error(_ status: ExitStatus, _ text: String) -> JobFailure { JobFailure(status, "\(address): \(text)") }
        if let code = statusCode, (300...399).contains(code) {
            return error(
                .notFound,
                "the server answered \(code), a redirect, which is not followed. Name the final address.")
        }
        switch ending {
        // 23: curl could not write, as there was no reader any more. SIGPIPE means the same.
        case .exited(0), .exited(23), .signalled(13): return nil
        case .exited(3): return error(.usage, "this is not a valid address (curl 3)")
        case .exited(5), .exited(6):
            return error(.notFound, "the host's name could not be resolved (DNS failure, curl 6)")
        case .exited(7):
            return error(.notFound, "no connection: no server listens there, or the connection is blocked (curl 7)")
        case .exited(18):
            return error(
                .ioError,
                "the body was shorter than announced: the connection ended early (short body, curl 18)")
        case .exited(22):
            let answer = statusCode.map { "\($0)" } ?? "an error"
            let meaning = statusCode == 404 ? " (not found)" : statusCode == 403 ? " (forbidden)" : ""
            return error(.notFound, "the server answered \(answer)\(meaning)")
        case .exited(28):
            return error(.ioError, "the connection timed out (curl 28)")
        case .exited(52):
            return error(.ioError, "the server closed the connection without an answer (curl 52)")
        case .exited(55), .exited(56):
            return error(.ioError, "the connection was lost while the image arrived (curl 56)")
        default: return error(.ioError, "curl failed (\(ending))")
        }
    }

    /// The results of both sides.
    struct Outcome {
        /// The reader's end: only the reader knows the state of the disk.
        var reader: JobEnd
        /// The error of the download.
        var failure: JobFailure?
    }

    /// Runs a job with the contents of `address` on its standard input. Messages of both appear on this process's
    /// output.
    static func run(
        _ address: String, into job: JobFile, waitingAt console: SessionConsole
    ) throws(JobFailure) -> Outcome {
        Signal.ignoreBrokenPipes()
        do {
            let pipe = try FileDescriptor.pipe(options: .closeOnExec)
            let followed: FollowedJob
            do {
                // Only the child may hold the read end: otherwise its end would not be noticed.
                defer { try? pipe.readEnd.close() }
                followed = try FollowedJob(job, input: pipe.readEnd)
            } catch {
                try? pipe.writeEnd.close()
                throw error
            }
            let download = HTTPDownload(address, headers: RecoveryPaths.httpHeaders) { text in
                _ = try? FileDescriptor.standardOutput.writeAll(Array((text + "\n").utf8))
            }
            let thread: WorkerThread
            do { thread = try WorkerThread { download.run(into: pipe.writeEnd) } } catch {
                try? pipe.writeEnd.close()
                _ = followed.waited()
                throw error
            }
            let ending = console.wait(for: followed.child)
            download.cancel()
            thread.join()
            return Outcome(reader: followed.end(ending), failure: download.failure)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
    }
}
