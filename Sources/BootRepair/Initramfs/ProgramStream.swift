// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem

/// A stream decompressed by a program of the running machine.
final class ProgramStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.

    /// The input of the program, which its feeding thread alone reads.
    private final class Feed: @unchecked Sendable {
        private let source: any ByteStream
        private var held: [UInt8] = []
        private var start = 0

        init(_ source: any ByteStream) { self.source = source }

        func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
            if start == held.count {
                held = try source.next()
                start = 0
            }
            let count = min(buffer.count, held.count - start)
            buffer.copyBytes(from: held[start..<start + count])
            start += count
            return count
        }
    }

    private let program: FilterProgram
    private let name: String
    private var hasEnded = false
    private static let stepByteCount = 1 << 18

    /// For `InitramfsReader`.
    static func unpack(
        _ compression: InitramfsCompression, _ source: any ByteStream
    ) throws(BootFileError) -> any ByteStream {
        guard let command = compression.program, let name = command.first, ChildProcess.canFind(name) else {
            return try InitramfsReader.refuse(compression, source)
        }
        let feed = Feed(source)
        do throws(SystemCallError) {
            return ProgramStream(try FilterProgram(command) { try feed.read(into: $0) }, name)
        } catch { throw .unreadable(why: "\(error)") }
    }

    private init(_ program: FilterProgram, _ name: String) {
        self.program = program
        self.name = name
    }

    func next() throws(BootFileError) -> [UInt8] {
        guard !hasEnded else { return [] }
        let bytes: [UInt8]
        do {
            bytes = try [UInt8](unsafeUninitializedCapacity: Self.stepByteCount) { buffer, count in
                count = try program.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        } catch { throw .unreadable(why: "\(error)") }
        guard bytes.isEmpty else { return bytes }
        hasEnded = true
        let result = program.finish()
        if let failure = result.feedFailure as? BootFileError { throw failure }
        // gzip's 2: a warning, such as padding after the stream.
        guard result.ending == .exited(0) || name == "gzip" && result.ending == .exited(2) else {
            throw .damaged(what: "\(name): \(result.lastWords.isEmpty ? "\(result.ending)" : result.lastWords)")
        }
        return []
    }
}
