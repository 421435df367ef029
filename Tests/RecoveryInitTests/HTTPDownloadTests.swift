// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

/// The machine tests' file server, on this host.
private final class Server {
    let port: Int
    private let child: ChildProcess
    private let input: FileDescriptor
    private let output: FileDescriptor

    /// - Parameter script: Python code that controls `server`, a `FileServer`.
    init(_ folder: FilePath, _ script: String, options: String = "") throws {
        let program = """
            import sys
            sys.path.insert(0, "\(projectRoot.appending("Tests/Machines"))"); sys.dont_write_bytecode = True
            from pathlib import Path
            from http_server import FileServer
            with FileServer(Path("\(folder)")\(options)) as server:
                \(script)
                print(server.port, flush=True)
                sys.stdin.readline()
                for request in server.requests: print(request.range, request.status)
            """
        let inputs = try FileDescriptor.pipe(options: .closeOnExec)
        let outputs = try FileDescriptor.pipe(options: .closeOnExec)
        child = try ChildProcess(
            ["python3", "-c", program], input: inputs.readEnd, output: outputs.writeEnd, error: .standardError)
        try inputs.readEnd.close()
        try outputs.writeEnd.close()
        (input, output) = (inputs.writeEnd, outputs.readEnd)
        var line: [UInt8] = []
        while line.last != 10 {
            var byte: [UInt8] = [0]
            guard try byte.withUnsafeMutableBytes({ try outputs.readEnd.read(into: $0) }) == 1 else { break }
            line += byte
        }
        port = Int(String(decoding: line.dropLast(), as: UTF8.self)) ?? 0
    }

    /// Ends the server. Returns its requests: range and status, one per line.
    func requests() throws -> [String] {
        try input.writeAll([10])
        let text = String(decoding: try Files.readAll(output, "requests"), as: UTF8.self)
        return text.split(separator: "\n").map(String.init)
    }

    deinit {
        Processes.send(.kill, to: child.processID)
        _ = child.poll()
        try? input.close()
        try? output.close()
    }
}

@Suite(.serialized, .enabled(if: has("curl", "python3"), "needs curl and python3")) struct HTTPDownloadTests {
    private let seed = Sample.seed()
    private let folder: TemporaryFolder
    private let bytes: [UInt8]
    private static let count = 3 << 20

    init() throws {
        folder = try TemporaryFolder()
        var random = SeededGenerator(seed: seed)
        bytes = (0..<Self.count / 8).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
        try Files.write(bytes, to: folder.file("image"))
        Signal.ignoreBrokenPipes()
    }

    /// The bytes from the pipe, and the error.
    private func download(
        _ port: Int, name: String = "image", stall: Double = 20, pauses: [Double] = [0, 0, 0.1], readLimit: Int? = nil,
        whileReading: ((Int) throws -> Void)? = nil
    ) throws -> (bytes: [UInt8], failure: JobFailure?, said: [String]) {
        let said = Monitor<[String]>([])
        let pipe = try FileDescriptor.pipe(options: .closeOnExec)
        let download = HTTPDownload(
            "http://127.0.0.1:\(port)/\(name)", headers: folder.file("headers"),
            patience: .init(stallSeconds: stall, pauses: pauses)
        ) { text in said.update { $0.append(text) } }
        let thread = try WorkerThread { download.run(into: pipe.writeEnd) }
        var got: [UInt8] = []
        while readLimit.map({ got.count < $0 }) ?? true {
            let part = try [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
                count = try pipe.readEnd.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
            if part.isEmpty { break }
            got += part
            try whileReading?(got.count)
        }
        try pipe.readEnd.close()
        if readLimit != nil { download.cancel() }
        thread.join()
        return (got, download.failure, said.update { $0 })
    }

    @Test func bringsAFile() throws {
        let server = try Server(folder.path, "pass")
        let result = try download(server.port)
        #expect(result.failure == nil && firstDifference(result.bytes, bytes) == nil && result.said == [])
        #expect(try server.requests() == ["None 200"])
    }

    /// Dropped at some offsets, orderly and by a reset: the bytes are equal, and each piece arrives once.
    @Test(arguments: ["", ", validators=False"]) func lostConnectionsAreMadeAgain(options: String) throws {
        var random = SeededGenerator(seed: seed)
        let cuts = (0..<5).map { _ in Int.random(in: 1..<Self.count, using: &random) }
        let server = try Server(
            folder.path, "server.cut('/image', \(cuts.map(String.init).joined(separator: ", ")))", options: options)
        let result = try download(server.port)
        #expect(result.failure == nil, "seed \(seed): \(result.failure?.message ?? "")")
        #expect(firstDifference(result.bytes, bytes) == nil, "seed \(seed)")
        #expect(!result.said.isEmpty && result.said[0].contains("asking for the rest"))
        let requests = try server.requests()
        #expect(
            requests.first == "None 200" && requests.dropFirst().allSatisfy { $0.hasSuffix("- 206") }, "\(requests)")
        // A reset can discard sent bytes, so that a later cut is never reached.
        #expect((3...6).contains(requests.count), "\(requests), seed \(seed)")
    }

    /// Any progress resets the retry count: many more losses than pauses.
    @Test func shortAnswersAddUp() throws {
        let server = try Server(folder.path, "server.behave('/image', 'short', after=200_000)")
        let result = try download(server.port)
        #expect(result.failure == nil && firstDifference(result.bytes, bytes) == nil)
        #expect(try server.requests().count == (Self.count + 199_999) / 200_000)
    }

    @Test func silenceIsALoss() throws {
        let server = try Server(folder.path, "server.behave('/image', 'stall', after=1_000_000)")
        let result = try download(server.port, stall: 1)
        #expect(result.failure == nil && firstDifference(result.bytes, bytes) == nil)
        // On a busy machine, a second can pass without a byte elsewhere, too.
        #expect(result.said.allSatisfy { $0.contains("timed out") } && result.said.count >= 3, "\(result.said)")
    }

    /// A slow reader does not count as a stalled server.
    @Test func aSlowReaderIsWaitedFor() throws {
        let server = try Server(folder.path, "pass")
        var paused = false
        let result = try download(server.port, stall: 1) { count in
            if count > 1 << 20, !paused {
                paused = true
                SystemFacts.sleep(seconds: 3)
            }
        }
        #expect(result.failure == nil && firstDifference(result.bytes, bytes) == nil && result.said == [])
    }

    @Test func aServerWithoutRangesIsSaid() throws {
        // The first answer ends early by itself; the second would start from the beginning.
        let server = try Server(
            folder.path,
            """
            server.behave('/image', 'short', after=1_000_000)
                import threading, time
                def switch():
                    while not any(request.body_bytes == 1_000_000 for request in server.requests): time.sleep(0.01)
                    server.behave('/image', 'no-range')
                threading.Thread(target=switch, daemon=True).start()
            """)
        let result = try download(server.port, pauses: [1, 1])
        #expect(result.failure?.status == .ioError)
        #expect(result.failure?.message.contains("Range") == true, "\(result.failure?.message ?? "")")
        #expect(firstDifference(result.bytes, Array(bytes[..<1_000_000])) == nil)
    }

    /// Another file under the same name is never appended to the first: by its tag, and without one by its length.
    @Test(arguments: ["", ", validators=False"]) func anotherFileIsSaid(options: String) throws {
        let server = try Server(folder.path, "server.behave('/image', 'stall', after=1_000_000)", options: options)
        let path = folder.file("image")
        let other = [UInt8](repeating: 7, count: Self.count + (options.isEmpty ? 0 : 1))
        var isReplaced = false
        // Made beforehand, so that only a rename happens between the first connection and the second.
        try Files.write(other, to: folder.file("other"))
        let result = try download(server.port, stall: 2) { count in
            if count >= 900_000, !isReplaced {
                isReplaced = true
                try Files.rename(folder.file("other"), to: path)
            }
        }
        #expect(result.failure?.status == .ioError)
        #expect(result.failure?.message.contains("has changed") == true, "\(result.failure?.message ?? "")")
        // curl buffers up to 4 KiB, which are lost when it is killed.
        #expect((990_000...1_000_000).contains(result.bytes.count))
        #expect(firstDifference(result.bytes, Array(bytes[..<result.bytes.count])) == nil)
    }

    @Test func patienceEnds() throws {
        let server = try Server(folder.path, "server.behave('/image', 'short', after=0)")
        let result = try download(server.port)
        #expect(result.failure?.status == .ioError && result.bytes.isEmpty)
        // After data was received, a lost server must not be reported as "not found": the disk is not untouched.
        let again = try Server(folder.path, "server.behave('/image', 'stall', after=1_000_000)")
        let port = again.port
        var requests: [String]?
        let lost = try download(port, stall: 1) { count in
            if count >= 1_000_000, requests == nil { requests = try again.requests() }
        }
        #expect(
            lost.failure?.status == .ioError && lost.failure?.message.contains("3 retries") == true,
            "\(lost.failure?.message ?? "")")
    }

    @Test func whatIsNotThereIsSaidAtOnce() throws {
        let server = try Server(folder.path, "server.behave('/image', 'error')")
        let missing = try download(server.port, name: "absent")
        #expect(missing.failure?.status == .notFound && missing.failure?.message.contains("404") == true)
        let broken = try download(server.port)
        #expect(broken.failure?.message.contains("500") == true)
        #expect(try server.requests().count == 2, "neither is asked for twice")
    }

    @Test func aReaderThatEndsEndsIt() throws {
        let server = try Server(folder.path, "pass")
        let result = try download(server.port, readLimit: 100_000)
        #expect(result.failure == nil)
    }
}

@Suite struct HTTPAnswerTests {
    @Test func headers() throws {
        let answer = try #require(
            HTTPAnswer(
                header:
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial Content\r\nContent-Length: 90\r\nETag: \"a b\"\r\nlast-modified: Sun, 22 Nov 2026 15:00:00 GMT\r\nContent-Range: bytes 10-99/100\r\n\r\n"
            ))
        #expect(answer.statusCode == 206 && answer.partStart == 10 && answer.wholeLength == 100)
        #expect(answer.validator == "\"a b\"")
        let weak = try #require(HTTPAnswer(header: "HTTP/1.1 200 OK\r\nETag: W/\"a\"\r\nContent-Length: x\r\n\r\n"))
        #expect(weak.validator == nil && weak.wholeLength == nil)
        let time = try #require(HTTPAnswer(header: "HTTP/1.0 200 OK\nLast-Modified: Sun\n\n"))
        #expect(time.validator == "Sun")
        #expect(HTTPAnswer(header: "HTTP/1.1 200 OK\r\nETag: \"a\"\r\n") == nil, "not whole")
        #expect(HTTPAnswer(header: "") == nil && HTTPAnswer(header: "HTTP/1.1 9 X\r\n\r\n") == nil)
        let star = try #require(HTTPAnswer(header: "HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/*\r\n\r\n"))
        #expect(star.partStart == 5 && star.wholeLength == nil)
        let evil = try #require(HTTPAnswer(header: "HTTP/1.1 200 OK\r\nETag: \"\u{1B}\u{7}\"\r\n\r\n"))
        #expect(evil.validator == nil)
    }

    @Test func sameVersion() throws {
        func answer(_ lines: String) throws -> HTTPAnswer {
            try #require(HTTPAnswer(header: "HTTP/1.1 206 P\r\n\(lines)\r\n\r\n"))
        }
        let first = try answer("ETag: \"1\"\r\nLast-Modified: a\r\nContent-Range: bytes 0-9/100")
        #expect(try answer("ETag: \"1\"\r\nContent-Range: bytes 5-9/100").fits(first))
        #expect(try answer("Content-Range: bytes 5-9/*").fits(first))
        #expect(try !answer("ETag: \"2\"\r\nLast-Modified: a\r\nContent-Range: bytes 5-9/100").fits(first))
        #expect(try !answer("ETag: \"1\"\r\nContent-Range: bytes 5-9/101").fits(first))
        #expect(try !answer("Last-Modified: b").fits(first))
    }

    @Test(arguments: [1, 2] as [UInt64]) func survivesAnything(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let pieces = [
            "HTTP/1.1 200 OK", "HTTP/", "\r\n", "\n", "\r\n\r\n", "Content-Length: ", "Content-Range: bytes ", "-", "/",
            "ETag: \"", "99999999999999999999", ":", "5",
        ]
        for _ in 0..<3000 { _ = HTTPAnswer(header: hostileText(pieces, using: &random)) }
    }
}
