// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// The content of a compressed file, front to back. Not thread-safe: the caller lets one thread read at a time.
final class DecompressedStream: @unchecked Sendable {
    private let file: FileBytes
    private let decompressor: any StreamDecompressor
    private let cancellation: Cancellation
    private var held: [UInt8] = []
    private var start = 0
    private var isFinished = false
    /// The position in the file, in bytes.
    private(set) var position: UInt64 = 0
    /// The length of one read of the compressed file, in bytes.
    private static let pieceByteCount = 256 << 10

    init(_ file: FileBytes, _ decompressor: any StreamDecompressor, _ cancellation: Cancellation) {
        self.file = file
        self.decompressor = decompressor
        self.cancellation = cancellation
    }

    /// Whether any part decompressed so far has no checksum.
    var hasUncheckedParts: Bool { decompressor.hasUncheckedParts }

    /// Decompresses into `target`.
    /// - Returns: the number of bytes: fewer than requested only at the end.
    func read(into target: UnsafeMutableRawBufferPointer) throws(ImageError) -> Int {
        var made = 0
        while made < target.count, !isFinished {
            if start == held.count {
                start = 0
                let offset = min(position, file.byteCount)
                held = try file.bytes(
                    at: offset, count: Int(min(UInt64(Self.pieceByteCount), file.byteCount - offset)))
            }
            let isLast = position + UInt64(held.count - start) >= file.byteCount
            let rest = start
            let done = made
            let result = unsafe held.withUnsafeBytes { held in
                Result { () throws(CodecError) in
                    unsafe try decompressor.decompress(
                        UnsafeRawBufferPointer(rebasing: held[rest...]), isLast: isLast,
                        into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
                }
            }
            let progress: StreamProgress
            do { progress = try result.get() } catch {
                throw .damaged(name: file.name, what: "\(error)", fileOffset: position, disk: nil, partition: nil)
            }
            // A decoder that makes no progress would loop forever.
            if progress.taken == 0, progress.made == 0, !progress.isFinished {
                throw .truncated(name: file.name, at: isLast ? file.byteCount : position)
            }
            start += progress.taken
            position += UInt64(progress.taken)
            made += progress.made
            isFinished = progress.isFinished
            if cancellation.isRequested { throw .system(SystemCallError("read", file.name, .interrupted)) }
        }
        return made
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
