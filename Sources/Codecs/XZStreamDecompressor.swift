// SPDX-License-Identifier: GPL-3.0-or-later
import CLZMA

/// Decompresses a file that liblzma can read: .xz with one stream or several and the padding between them (xz 1.2.0,
/// section 2), .lz (lzip 1.23, members one after another) or .lzma (lzma-file-format of the LZMA SDK).
package final class XZStreamDecompressor: StreamDecompressor {
    private let stream: UnsafeMutablePointer<lzma_stream>
    /// Whether a stream has no checksum.
    package private(set) var hasUncheckedParts = false

    /// The memory limit in bytes: a dictionary of 128 MiB, twice that of the highest preset.
    static let memoryLimit: UInt64 = 132 << 20

    package enum Container: Sendable { case xz, lzip, lzma }

    /// - Parameter isOneStream: whether the file ends with its first stream of .xz.
    package init(_ container: Container = .xz, isOneStream: Bool = false) throws(CodecError) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: lzma_stream())
        // Macros that Swift cannot import (lzma/container.h): LZMA_TELL_NO_CHECK,
        // LZMA_TELL_UNSUPPORTED_CHECK, LZMA_CONCATENATED.
        let flags: UInt32 = 0x01 | 0x02 | (isOneStream ? 0 : 0x08)
        let result: lzma_ret
        switch container {
        case .xz: result = lzma_stream_decoder(stream, Self.memoryLimit, flags)
        case .lzip: result = lzma_lzip_decoder(stream, Self.memoryLimit, flags)
        case .lzma:
            // The format has no checksum.
            hasUncheckedParts = true
            result = lzma_alone_decoder(stream, Self.memoryLimit)
        }
        guard result == LZMA_OK else { throw XZ.error(result) }
    }

    deinit {
        lzma_end(stream)
        stream.deallocate()
    }

    package func decompress(
        _ source: UnsafeRawBufferPointer, isLast: Bool, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> StreamProgress {
        stream.pointee.next_in = source.bindMemory(to: UInt8.self).baseAddress
        stream.pointee.avail_in = source.count
        stream.pointee.next_out = target.bindMemory(to: UInt8.self).baseAddress
        stream.pointee.avail_out = target.count
        var result = LZMA_OK
        repeat {
            result = lzma_code(stream, isLast ? LZMA_FINISH : LZMA_RUN)
            if result == LZMA_NO_CHECK { hasUncheckedParts = true }
        } while result == LZMA_NO_CHECK
        let progress = StreamProgress(
            taken: source.count - stream.pointee.avail_in, made: target.count - stream.pointee.avail_out,
            isFinished: result == LZMA_STREAM_END)
        switch result {
        case LZMA_OK, LZMA_STREAM_END: return progress
        // No progress twice in a row: harmless before the end of the input.
        case LZMA_BUF_ERROR where !isLast: return progress
        default: throw XZ.error(result)
        }
    }
}
