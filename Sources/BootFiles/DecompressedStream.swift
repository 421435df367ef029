// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// Decompresses one frame or stream with a built-in codec, as Linux does: what follows is another segment.
final class DecompressedStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let source: any ByteStream
    private let decompressor: any StreamDecompressor
    private var held: [UInt8] = []
    private var start = 0
    private var isLast = false
    private var isFinished = false
    private static let stepByteCount = 1 << 18

    /// - Returns: `nil` for a compression without a built-in codec.
    init?(_ compression: InitramfsCompression, _ source: any ByteStream) throws(BootFileError) {
        self.source = source
        do throws(CodecError) {
            switch compression {
            case .zstd: decompressor = try ZstdStreamDecompressor(isOneFrame: true)
            case .xz: decompressor = try XZStreamDecompressor(isOneStream: true)
            case .lzma: decompressor = try XZStreamDecompressor(.lzma)
            case .gzip, .bzip2, .lz4, .lzo: return nil
            }
        } catch { throw .damaged(what: "\(error)") }
    }

    /// The bytes behind the end that were read from the source.
    var rest: [UInt8] { ((decompressor as? ZstdStreamDecompressor)?.leftover ?? []) + held[start...] }

    func next() throws(BootFileError) -> [UInt8] {
        while !isFinished {
            if start == held.count, !isLast {
                held = try source.next()
                start = 0
                isLast = held.isEmpty
            }
            let (bytes, progress) = try step()
            start += progress.taken
            isFinished = progress.isFinished
            if !bytes.isEmpty { return bytes }
            // A decoder that makes no progress would loop forever.
            guard progress.taken > 0 || isFinished || !isLast && start == held.count else {
                throw .damaged(what: "the compressed stream is cut off")
            }
        }
        return []
    }

    private func step() throws(BootFileError) -> ([UInt8], StreamProgress) {
        var outcome: Result<StreamProgress, CodecError> = .failure(CodecError("no memory"))
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: Self.stepByteCount) { target, count in
            // Safety: the codec writes only inside `target`, and `made` bytes of it.
            unsafe held.withUnsafeBytes { held in
                outcome = Result { () throws(CodecError) in
                    unsafe try decompressor.decompress(
                        UnsafeRawBufferPointer(rebasing: held[start...]), isLast: isLast,
                        into: UnsafeMutableRawBufferPointer(target))
                }
            }
            count = (try? outcome.get().made) ?? 0
        }
        do throws(CodecError) { return (bytes, try outcome.get()) } catch { throw .damaged(what: "\(error)") }
    }
}
