// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageFiles
import ImageModel
import LinuxSystem
import Synchronization
import SystemPackage

/// The content of a stream of pieces, joined and decompressed, front to back. A thread decompresses ahead of the reader.
///
/// Not thread-safe: the caller lets one thread read at a time.
final class PieceContent: @unchecked Sendable {
    /// What the decompressing thread shares with the reader.
    final class Shared: Sendable {
        enum Item: Sendable {
            case bytes([UInt8])
            case end
            case failure(ImageError)
        }
        let items = BoundedQueue<Item>(capacity: 4)
        let position = Atomic<UInt64>(0)
        let hasUncheckedParts = Atomic(false)
        private let program = Mutex<FilterProgram?>(nil)
        private let isStopped = Atomic(false)

        /// Registers the program that `stop` ends.
        func run(_ started: FilterProgram?) {
            program.withLock { $0 = started }
            if isStopped.load(ordering: .sequentiallyConsistent) { started?.stop() }
        }

        func stop() {
            isStopped.store(true, ordering: .sequentiallyConsistent)
            items.cancel()
            program.withLock { $0?.stop() }
        }
    }

    /// The open pieces.
    let files: [PieceFile]
    let compression: Compression
    private let shared = Shared()
    private var held: [UInt8] = []
    private var start = 0
    private var end: Result<Void, ImageError>?
    /// The number of decompressed bytes read so far.
    private(set) var contentPosition: UInt64 = 0

    /// Opens the pieces and starts to decompress.
    /// - Throws: `ImageError.refused` if the program for its compression is missing.
    convenience init(_ stream: PieceStream, _ cancellation: Cancellation) throws(ImageError) {
        try self.init(try PieceFile.open(stream), cancellation)
    }

    /// Starts over with open pieces.
    init(_ files: [PieceFile], _ cancellation: Cancellation) throws(ImageError) {
        self.files = files
        compression = try Self.compression(of: files)
        let source = PieceBytes(files)
        let (shared, compression) = (shared, compression)
        if case .program(let program, _) = compression.decoder, !ChildProcess.canFind(program) {
            throw .refused(
                "\(files.first?.name ?? "") is compressed with \(compression.name), and \(program) "
                    + "is not installed: install it (in Debian, the package \(program))")
        }
        do throws(SystemCallError) {
            _ = try WorkerThread { PieceDecoder(source, compression, cancellation, shared).run() }
        } catch { throw .system(error) }
    }

    deinit { shared.stop() }

    private static func compression(of files: [PieceFile]) throws(ImageError) -> Compression {
        var head = [UInt8](repeating: 0, count: Compression.headByteCount)
        let source = PieceBytes(files)
        var count = 0
        while count < head.count {
            let done = count
            let read = unsafe head.withUnsafeMutableBytes { head in
                Result { () throws(ImageError) in
                    unsafe try source.read(into: UnsafeMutableRawBufferPointer(rebasing: head[done...]))
                }
            }
            let more = try read.get()
            if more == 0 { break }
            count += more
        }
        return Compression.detect(Array(head[..<count]))
    }

    var name: String { files.first?.name ?? "" }
    /// The length of all pieces, in bytes.
    var byteCount: UInt64 { files.reduce(0) { $0.addingReportingOverflow($1.byteCount).partialValue } }
    /// The bytes of the pieces that were decompressed so far.
    var position: UInt64 { shared.position.load(ordering: .relaxed) }
    /// Whether any part decompressed so far has no checksum.
    var hasUncheckedParts: Bool { shared.hasUncheckedParts.load(ordering: .relaxed) }

    /// Fails if a piece was changed since it was opened.
    func confirmUnchanged() throws(ImageError) {
        for file in files { try file.confirmUnchanged() }
    }

    /// Makes the next bytes available.
    /// - Returns: whether there are any.
    private func fill() throws(ImageError) -> Bool {
        while start == held.count {
            if let end {
                try end.get()
                return false
            }
            switch shared.items.pop() {
            case .bytes(let bytes): (held, start) = (bytes, 0)
            case .end: end = .success(())
            case .failure(let error): end = .failure(error)
            case nil: end = .failure(.truncated(name: name, at: position))
            }
        }
        return true
    }

    /// Fills `target` with the next bytes.
    /// - Returns: the number of bytes: fewer than requested only at the end.
    func read(into target: UnsafeMutableRawBufferPointer) throws(ImageError) -> Int {
        var made = 0
        while made < target.count, try fill() {
            let count = min(target.count - made, held.count - start)
            unsafe UnsafeMutableRawBufferPointer(rebasing: target[made...]).copyBytes(from: held[start..<start + count])
            start += count
            made += count
        }
        contentPosition += UInt64(made)
        return made
    }

    /// The next bytes, which stay: up to `count`, fewer at the end.
    func peek(_ count: Int) throws(ImageError) -> [UInt8] {
        try fill() ? Array(held[start..<min(held.count, start + count)]) : []
    }

    /// Passes over bytes.
    /// - Returns: the number of bytes: fewer than `count` only at the end.
    func skip(_ count: UInt64) throws(ImageError) -> UInt64 {
        var done: UInt64 = 0
        while done < count, try fill() {
            let step = min(count - done, UInt64(held.count - start))
            start += Int(step)
            done += step
        }
        contentPosition += done
        return done
    }

    /// The next bytes: `count`, or fewer at the end.
    func next(_ count: Int) throws(ImageError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let result = unsafe bytes.withUnsafeMutableBytes { bytes in
            Result { () throws(ImageError) in unsafe try read(into: bytes) }
        }
        let made = try result.get()
        return made == count ? bytes : Array(bytes.prefix(made))
    }
}
