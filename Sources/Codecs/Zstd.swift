// SPDX-License-Identifier: GPL-3.0-or-later
import CZstd

/// Compresses one chunk into one zstd frame (RFC 8878) with its length and a content checksum.
///
/// Holds a context of some MiB, reused for every chunk. One per thread.
package final class ZstdCompressor {
    private let context: OpaquePointer
    private let level: Int
    /// Whether the tables are set for long contents.
    private var isTunedForLong: Bool?

    /// A window of 8 MiB finds matches that the default 2 MiB of low levels miss, at no cost: 0.5 % less in chunks of
    /// that length. libzstd limits it to the content's length. Any decoder accepts it (RFC 8878 recommends 8 MiB);
    /// the highest levels use more.
    private static let windowLog: Int32 = 23
    private static let levelsOfSmallerWindows = 1...19

    /// The levels of libzstd.
    package static var levels: ClosedRange<Int> { 1...Int(ZSTD_maxCLevel()) }

    package init(level: Int) throws(CodecError) {
        guard Self.levels.contains(level) else {
            throw CodecError("zstd has levels \(Self.levels.lowerBound) to \(Self.levels.upperBound), not \(level)")
        }
        guard let context = ZSTD_createCCtx() else { throw CodecError("no memory for a zstd context") }
        self.context = context
        self.level = level
        // The simple API writes no content checksum, despite its documentation; the advanced one does.
        for (parameter, value) in [
            (ZSTD_c_compressionLevel, Int32(level)), (ZSTD_c_checksumFlag, 1), (ZSTD_c_contentSizeFlag, 1),
            (ZSTD_c_windowLog, Self.levelsOfSmallerWindows.contains(level) ? Self.windowLog : 0),
        ] { try set(parameter, value) }
    }

    private func set(_ parameter: ZSTD_cParameter, _ value: Int32) throws(CodecError) {
        let result = ZSTD_CCtx_setParameter(context, parameter, value)
        guard ZSTD_isError(result) == 0 else { throw Self.error(result) }
    }

    /// Level 3 has tables of 256 and 512 KiB (chainLog 16, hashLog 17; 0 means the level's own). With 64 KiB
    /// for the first, two busy processes took 17 % less processor time for 0.3 % more bytes (a sample of one
    /// volume, least of six, on a machine with other work; perhaps because of the shared cache, but the machine
    /// has no counters to confirm it). In a long content the wider window has already compensated for those
    /// bytes; in a short one nothing has.
    private func tune(_ byteCount: Int) throws(CodecError) {
        let isLong = byteCount > 4 << 20
        guard level == 3, isLong != isTunedForLong else { return }
        try set(ZSTD_c_chainLog, isLong ? 14 : 0)
        isTunedForLong = isLong
    }

    deinit { ZSTD_freeCCtx(context) }

    /// The upper bound on the frame length of `byteCount` bytes of content.
    package static func bound(_ byteCount: Int) -> Int { ZSTD_compressBound(byteCount) }

    /// Compresses all of `source` into `target`, which has room for `bound` bytes.
    /// - Returns: the length of the frame.
    package func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        try tune(source.count)
        let result = ZSTD_compress2(context, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(result) == 0 else { throw Self.error(result) }
        return result
    }

    static func error(_ code: Int) -> CodecError { CodecError("zstd: \(String(cString: ZSTD_getErrorName(code)))") }
}

/// Decompresses one zstd frame at a time.
package final class ZstdDecompressor {
    private let context: OpaquePointer

    /// A decompressor that refuses windows over 128 MiB (the highest level's), whatever a frame asks for.
    package init() throws(CodecError) {
        guard let context = ZSTD_createDCtx() else { throw CodecError("no memory for a zstd context") }
        self.context = context
    }

    deinit { ZSTD_freeDCtx(context) }

    /// Decompresses `source`, exactly one frame, into `target`.
    /// - Returns: the length of the content.
    /// - Throws: `CodecError` if the frame is damaged or its content does not fit.
    package func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        // ZSTD_decompressDCtx would also accept several frames and skippable ones.
        guard ZSTD_findFrameCompressedSize(source.baseAddress, source.count) == source.count else {
            throw CodecError("zstd: not one whole frame")
        }
        let result = ZSTD_decompressDCtx(
            context, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(result) == 0 else { throw ZstdCompressor.error(result) }
        return result
    }
}

/// Compresses and decompresses whole byte arrays, for metadata.
package enum Zstd {
    /// One frame with all of `bytes`.
    package static func compress(_ bytes: [UInt8], level: Int = 9) throws(CodecError) -> [UInt8] {
        let compressor = try ZstdCompressor(level: level)
        var target = [UInt8](repeating: 0, count: ZstdCompressor.bound(bytes.count))
        let result = target.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { source in
                Result { () throws(CodecError) in try compressor.compress(source, into: target) }
            }
        }
        return Array(target.prefix(try result.get()))
    }

    /// The content of one frame, of at most `limit` bytes.
    package static func decompress(_ bytes: [UInt8], limit: Int) throws(CodecError) -> [UInt8] {
        let decompressor = try ZstdDecompressor()
        let declared = bytes.withUnsafeBytes { ZSTD_getFrameContentSize($0.baseAddress, $0.count) }
        // Unknown and error are the two largest numbers (zstd.h).
        guard declared <= UInt64(limit) else { throw CodecError("zstd: a frame without a plausible length") }
        var target = [UInt8](repeating: 0, count: Int(declared))
        let result = target.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { source in
                Result { () throws(CodecError) in try decompressor.decompress(source, into: target) }
            }
        }
        guard try result.get() == target.count else { throw CodecError("zstd: the content is shorter than declared") }
        return target
    }
}
