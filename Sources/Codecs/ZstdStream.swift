// SPDX-License-Identifier: GPL-3.0-or-later
import CZstd

/// Decompresses a .zst file of another program: any number of frames (RFC 8878), or one.
package final class ZstdStreamDecompressor: StreamDecompressor {
    private let context: OpaquePointer
    /// The start of a frame, held back until its kind is known, and the number of its bytes already passed on.
    private var head: [UInt8] = []
    private var headTaken = 0
    private var isInFrame = false
    private let isOneFrame: Bool
    /// The bytes behind the frame that were taken with it, if it is to be the only one: at most 12.
    package private(set) var leftover: [UInt8] = []
    /// Whether a frame has no checksum.
    package private(set) var hasUncheckedParts = false

    /// Windows over 128 MiB, the highest level's, are refused.
    package static let largestWindowLog: Int32 = 27
    /// Magic number, length, and a tag of four bytes.
    private static let headByteCount = 12

    /// - Parameter isOneFrame: whether the stream ends with its first frame.
    package init(isOneFrame: Bool = false) throws(CodecError) {
        self.isOneFrame = isOneFrame
        guard let context = ZSTD_createDCtx() else { throw CodecError("no memory for a zstd context") }
        self.context = context
        let result = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.largestWindowLog)
        guard ZSTD_isError(result) == 0 else { throw ZstdCompressor.error(result) }
    }

    deinit { ZSTD_freeDCtx(context) }

    package func decompress(
        _ source: UnsafeRawBufferPointer, isLast: Bool, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> StreamProgress {
        var taken = 0
        if !isInFrame {
            taken = min(Self.headByteCount - head.count, source.count)
            head += source[..<taken]
            if head.isEmpty, isLast { return StreamProgress(taken: 0, made: 0, isFinished: true) }
            guard head.count == Self.headByteCount || isLast else {
                return StreamProgress(taken: taken, made: 0, isFinished: false)
            }
            try checkHead()
            isInFrame = true
        }
        var made = 0
        if headTaken < head.count {
            let start = headTaken
            let result = head.withUnsafeBytes { head in
                Result { () throws(CodecError) in
                    try step(UnsafeRawBufferPointer(rebasing: head[start...]), into: target, made: &made)
                }
            }
            headTaken += try result.get()
            // A frame can end inside these bytes; the remaining bytes start the next one.
            if !isInFrame {
                head.removeFirst(headTaken)
                headTaken = 0
                if isOneFrame {
                    leftover = head
                    return StreamProgress(taken: taken, made: made, isFinished: true)
                }
            }
            if headTaken < head.count || !isInFrame {
                return StreamProgress(taken: taken, made: made, isFinished: false)
            }
        }
        let count = try step(
            UnsafeRawBufferPointer(rebasing: source[taken...]),
            into: UnsafeMutableRawBufferPointer(rebasing: target[made...]), made: &made)
        taken += count
        if !isInFrame {
            head = []
            headTaken = 0
        } else if isLast, taken == source.count, made < target.count {
            throw CodecError("zstd: it ends inside a frame")
        }
        return StreamProgress(taken: taken, made: made, isFinished: isOneFrame && !isInFrame)
    }

    /// One call of the decoder.
    /// - Returns: the number of bytes consumed from `source`.
    private func step(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, made: inout Int
    ) throws(CodecError) -> Int {
        var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
        var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        let result = ZSTD_decompressStream(context, &output, &input)
        guard ZSTD_isError(result) == 0 else { throw ZstdCompressor.error(result) }
        made += output.pos
        // 0: the frame is decoded and completely output.
        if result == 0 { isInFrame = false }
        return input.pos
    }

    /// Checks the start of a frame: parts of a Reforge image must not pass for a foreign file.
    private func checkHead() throws(CodecError) {
        guard head.count >= 4 else { throw CodecError("zstd: it ends inside a frame") }
        let magic = head[0..<4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
            // Frame tags of Reforge (ImageFormat.md).
            let tag = Array(head[min(8, head.count)...])
            guard !["RFCR", "RFIX", "RFLF", "RFIM", "RFSG"].contains(where: { Array($0.utf8) == tag }) else {
                throw CodecError("zstd: this is a part of a Reforge image")
            }
            return
        }
        // Frame header descriptor, §3.1.1.1.1: bit 2 is the checksum flag.
        if head.count > 4, head[4] & 4 == 0 { hasUncheckedParts = true }
    }
}
