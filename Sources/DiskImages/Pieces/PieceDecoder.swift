// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageFiles
import ImageModel
import LinuxSystem
import Synchronization
import SystemPackage

/// The work of the thread that decompresses a stream of pieces.
final class PieceDecoder: @unchecked Sendable {
    // @unchecked: one thread uses it; the feeding thread of a program alone reads `source` then.
    private let source: PieceBytes
    private let compression: Compression
    private let cancellation: Cancellation
    private let shared: PieceContent.Shared
    /// The length of one decompressed buffer, and of one read of a piece, in bytes.
    private static let bufferByteCount = 1 << 20
    private static let readByteCount = 256 << 10

    init(
        _ source: PieceBytes, _ compression: Compression, _ cancellation: Cancellation, _ shared: PieceContent.Shared
    ) {
        self.source = source
        self.compression = compression
        self.cancellation = cancellation
        self.shared = shared
    }

    func run() {
        defer { shared.items.close() }
        do throws(ImageError) {
            let isWhole =
                switch compression.decoder {
                case .plain: try copy()
                case .codec(let make): try decompress(make)
                case .program(let name, let options): try filter([name, options])
                }
            if isWhole { shared.items.push(.end) }
        } catch { shared.items.push(.failure(error)) }
    }

    /// Makes one buffer with `body`, which returns the number of bytes made, and queues it.
    /// - Returns: the number of bytes; `nil` if the reader is gone.
    private func queue(
        _ body: (UnsafeMutableRawBufferPointer) throws(ImageError) -> Int
    ) throws(ImageError) -> Int? {
        if cancellation.isRequested { throw .system(SystemCallError("read", source.place.name, .interrupted)) }
        var outcome: Result<Int, ImageError> = .success(0)
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: Self.bufferByteCount) { buffer, count in
            outcome = Result { () throws(ImageError) in unsafe try body(UnsafeMutableRawBufferPointer(buffer)) }
            count = (try? outcome.get()) ?? 0
        }
        let count = try outcome.get()
        shared.position.store(source.position, ordering: .relaxed)
        return count == 0 || shared.items.push(.bytes(bytes)) ? count : nil
    }

    private func noteUnchecked() { shared.hasUncheckedParts.store(true, ordering: .relaxed) }

    /// - Returns: `false` if the reader is gone.
    private func copy() throws(ImageError) -> Bool {
        noteUnchecked()
        while let count = unsafe try queue({ buffer throws(ImageError) in unsafe try source.read(into: buffer) }) {
            if count == 0 { return true }
        }
        return false
    }

    private func decompress(
        _ make: () throws(CodecError) -> any StreamDecompressor
    ) throws(ImageError) -> Bool {
        let decompressor: any StreamDecompressor
        do throws(CodecError) { decompressor = try make() } catch {
            throw .unsupported(name: source.place.name, what: "\(error)")
        }
        var held = [UInt8](repeating: 0, count: Self.readByteCount)
        var (start, end) = (0, 0)
        var isFinished = false
        while !isFinished {
            let made = unsafe try queue { buffer throws(ImageError) in
                var made = 0
                while made < buffer.count, !isFinished {
                    if start == end {
                        start = 0
                        end = try fill(&held)
                    }
                    let progress = unsafe try step(decompressor, held, start..<end, buffer, made)
                    start += progress.taken
                    made += progress.made
                    isFinished = progress.isFinished
                }
                return made
            }
            if decompressor.hasUncheckedParts { noteUnchecked() }
            if made == nil { return false }
        }
        // The decoder of a format without several streams in a file stops at the end of the first one.
        guard start == end, source.isAtEnd else {
            let place = source.place
            throw .damaged(
                name: place.name, what: "other bytes follow the end of the \(compression.name) stream",
                fileOffset: place.offset, disk: nil, partition: nil)
        }
        return true
    }

    private func fill(_ held: inout [UInt8]) throws(ImageError) -> Int {
        let read = unsafe held.withUnsafeMutableBytes { held in
            Result { () throws(ImageError) in unsafe try source.read(into: held) }
        }
        return try read.get()
    }

    private func step(
        _ decompressor: any StreamDecompressor, _ held: [UInt8], _ rest: Range<Int>,
        _ buffer: UnsafeMutableRawBufferPointer, _ made: Int
    ) throws(ImageError) -> StreamProgress {
        let isLast = source.isAtEnd
        let result = unsafe held.withUnsafeBytes { held in
            Result { () throws(CodecError) in
                unsafe try decompressor.decompress(
                    UnsafeRawBufferPointer(rebasing: held[rest]), isLast: isLast,
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer[made...]))
            }
        }
        let place = source.place
        let progress: StreamProgress
        do { progress = try result.get() } catch {
            throw .damaged(
                name: place.name, what: "\(error)", fileOffset: place.offset, disk: nil, partition: nil)
        }
        // A decoder that makes no progress would loop forever.
        if progress.taken == 0, progress.made == 0, !progress.isFinished, isLast || !rest.isEmpty {
            throw .truncated(name: place.name, at: place.offset)
        }
        return progress
    }

    private func filter(_ arguments: [String]) throws(ImageError) -> Bool {
        if compression.isUnchecked(head) { noteUnchecked() }
        let source = source
        let program: FilterProgram
        do throws(SystemCallError) {
            program = unsafe try FilterProgram(arguments) { unsafe try source.read(into: $0) }
        } catch { throw .system(error) }
        shared.run(program)
        defer { shared.run(nil) }
        while true {
            let count = unsafe try queue { buffer throws(ImageError) in
                var made = 0
                while made < buffer.count {
                    let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[made...])
                    let count: Int
                    do throws(SystemCallError) { count = unsafe try program.read(into: rest) } catch {
                        throw .system(error)
                    }
                    if count == 0 { break }
                    made += count
                }
                return made
            }
            guard let count else { return false }
            if count == 0 { break }
        }
        let result = program.finish()
        if let error = result.feedFailure as? ImageError { throw error }
        // bzip2 succeeds where other bytes follow the stream, and only says so.
        guard result.ending == .exited(0), result.lastWords.isEmpty, source.isAtEnd else {
            let place = source.place
            let words = result.lastWords.isEmpty ? "\(result.ending)" : result.lastWords
            throw .damaged(
                name: place.name, what: "\(arguments[0]): \(words)", fileOffset: place.offset, disk: nil,
                partition: nil)
        }
        return true
    }

    /// The first bytes of the stream.
    private var head: [UInt8] {
        guard let file = try? source.files.first?.open() else { return [] }
        return (try? file.bytes(at: 0, count: Int(min(file.byteCount, UInt64(Compression.headByteCount))))) ?? []
    }
}
