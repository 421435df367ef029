// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import SystemPackage

/// The content of a raw image, front to back, decompressed where it is compressed.
final class ForeignImageSource {
    private let file: FileBytes
    private let cancellation: Cancellation
    /// `nil` for what is not compressed.
    private let decompressor: (any StreamDecompressor)?
    private var held: [UInt8] = []
    private var start = 0
    private var isFinished = false
    /// Where it is in the file, in bytes.
    private(set) var position: UInt64 = 0
    /// Compressed bytes are read in pieces of this length.
    private static let pieceByteCount = 256 << 10

    init(_ file: FileBytes, _ kind: ImageFileKind, _ cancellation: Cancellation) throws(CodecError) {
        self.file = file
        self.cancellation = cancellation
        switch kind {
        case .foreignXZ: decompressor = try XZStreamDecompressor()
        case .foreignZstd: decompressor = try ZstdStreamDecompressor()
        default: decompressor = nil
        }
    }

    /// Whether a part seen so far carries no checksum.
    var hasUncheckedParts: Bool { decompressor?.hasUncheckedParts ?? true }

    /// Fills as much of `target` as there is.
    /// - Returns: how much that is: less only at the end.
    func read(into target: UnsafeMutableRawBufferPointer) throws(ImageError) -> Int {
        guard let decompressor else {
            let count = unsafe try file.readSome(into: target, at: position)
            position += UInt64(count)
            return count
        }
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
            // A decoder that has bytes and room and does nothing would go on for ever.
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
}
