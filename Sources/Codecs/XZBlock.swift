// SPDX-License-Identifier: GPL-3.0-or-later
import CLZMA

/// One block of an .xz file (xz 1.2.0, section 3): header with both sizes, LZMA2 data, padding, CRC-64.
package enum XZBlock {
    /// The presets of liblzma.
    package static let levels: ClosedRange<Int> = 0...9
    /// The longest header of a block in bytes (section 3.1.1).
    package static let longestHeader = 1024
    /// The memory limit of the decoder of one block, in bytes: a dictionary of 64 MiB, the size of the longest chunk.
    static let memoryLimit: UInt64 = 66 << 20

    /// The sizes of a block, from its header.
    package struct Sizes: Equatable, Sendable {
        /// From the first byte of its header to the last of its padding and checksum, in bytes.
        package var stored: Int
        /// The stored length without the padding, as in the index.
        package var unpadded: UInt64
        /// The length of the content in bytes.
        package var content: UInt64
    }

    /// The memory needed to compress one chunk, without the chunk itself, in bytes.
    package static func encoderMemoryByteCount(level: Int, chunkByteCount: Int) -> UInt64 {
        guard var options = try? options(level: level, byteCount: chunkByteCount) else { return .max }
        return withFilters(&options) { lzma_raw_encoder_memusage($0) }
    }

    static func compress(
        _ content: UnsafeRawBufferPointer, level: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        var options = try options(level: level, byteCount: content.count)
        return try encode(content, &options, into: target)
    }

    /// Decompresses `stored`, which is exactly one block.
    /// - Returns: the length of the content.
    static func decompress(
        _ stored: UnsafeRawBufferPointer, into content: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        var taken = try headerByteCount(stored)
        var made = 0
        let result = try withHeader(of: stored) { block in
            lzma_block_buffer_decode(
                block, nil, stored.bindMemory(to: UInt8.self).baseAddress, &taken, stored.count,
                content.bindMemory(to: UInt8.self).baseAddress, &made, content.count)
        }
        guard result == LZMA_OK else { throw XZ.error(result) }
        guard taken == stored.count else { throw CodecError("xz: something follows the block") }
        return made
    }

    /// The sizes in the block header at the start of `bytes`, which contain the whole header.
    /// - Throws: `CodecError` if the header is damaged or lacks a size.
    package static func sizes(_ bytes: UnsafeRawBufferPointer) throws(CodecError) -> Sizes {
        let sizes = try withHeader(of: bytes) { block -> Sizes? in
            let stored = lzma_block_total_size(block)
            let unpadded = lzma_block_unpadded_size(block)
            // Both are 0 for an invalid header, and unknown (all ones) where the header lacks the compressed size.
            guard stored > 0, unpadded > 0, stored <= UInt64(Int32.max),
                block.pointee.uncompressed_size <= XZ.largestNumber
            else { return nil }
            return Sizes(stored: Int(stored), unpadded: unpadded, content: block.pointee.uncompressed_size)
        }
        guard let sizes else { throw CodecError("xz: a block without plausible sizes") }
        return sizes
    }

    /// A block of `byteCount` zeros (at most 64 MiB), as short as LZMA can make it.
    package static func zeros(byteCount: Int) throws(CodecError) -> [UInt8] {
        var options = try options(level: 0, byteCount: 64 << 10)
        // Consecutive matches of the greatest length: no search is needed.
        options.nice_len = 273
        options.mode = LZMA_MODE_NORMAL
        options.mf = LZMA_MF_BT4
        options.depth = 1
        var target = [UInt8](repeating: 0, count: ChunkCoding.bound(byteCount))
        let content = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
        defer { content.deallocate() }
        content.initializeMemory(as: UInt8.self, repeating: 0)
        let result = target.withUnsafeMutableBytes { target in
            Result { () throws(CodecError) in try encode(UnsafeRawBufferPointer(content), &options, into: target) }
        }
        return Array(target.prefix(try result.get()))
    }

    /// Whether `stored`, exactly one block, decodes to `byteCount` zeros; needs no memory for all of them.
    package static func isZeros(_ stored: UnsafeRawBufferPointer, byteCount: UInt64) throws(CodecError) -> Bool {
        var stream = lzma_stream()
        defer { lzma_end(&stream) }
        var content = [UInt8](repeating: 0, count: 128 << 10)
        var made: UInt64 = 0
        var isZero = true
        let headerByteCount = try headerByteCount(stored)
        let result = try withHeader(of: stored) { block -> lzma_ret in
            var result = lzma_block_decoder(&stream, block)
            stream.next_in = stored.bindMemory(to: UInt8.self).baseAddress?.advanced(by: headerByteCount)
            stream.avail_in = stored.count - headerByteCount
            while result == LZMA_OK, isZero, made <= byteCount {
                content.withUnsafeMutableBytes { content in
                    stream.next_out = content.bindMemory(to: UInt8.self).baseAddress
                    stream.avail_out = content.count
                    result = lzma_code(&stream, LZMA_RUN)
                    let count = content.count - stream.avail_out
                    made += UInt64(count)
                    isZero = ZeroTest.isZero(UnsafeRawBufferPointer(rebasing: content[..<count]))
                }
            }
            return result
        }
        guard result == LZMA_STREAM_END || result == LZMA_OK else { throw XZ.error(result) }
        return result == LZMA_STREAM_END && isZero && made == byteCount && stream.avail_in == 0
    }

    private static func options(level: Int, byteCount: Int) throws(CodecError) -> lzma_options_lzma {
        var options = lzma_options_lzma()
        guard levels.contains(level), lzma_lzma_preset(&options, UInt32(level)) == 0 else {
            throw CodecError("xz has levels \(levels.lowerBound) to \(levels.upperBound), not \(level)")
        }
        // A dictionary larger than the content improves nothing, and costs eleven times its size.
        options.dict_size = min(options.dict_size, UInt32(clamping: max(byteCount, 4096)))
        return options
    }

    private static func encode(
        _ content: UnsafeRawBufferPointer, _ options: inout lzma_options_lzma,
        into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) -> Int {
        var made = 0
        let result = withFilters(&options) { filters in
            var block = lzma_block()
            block.check = XZ.check
            block.filters = filters
            return lzma_block_buffer_encode(
                &block, nil, content.bindMemory(to: UInt8.self).baseAddress, content.count,
                target.bindMemory(to: UInt8.self).baseAddress, &made, target.count)
        }
        guard result == LZMA_OK else { throw XZ.error(result) }
        return made
    }

    private static func withFilters<Result>(
        _ options: inout lzma_options_lzma, _ body: (UnsafeMutablePointer<lzma_filter>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &options) { options in
            withUnsafeTemporaryAllocation(of: lzma_filter.self, capacity: 2) { filters in
                filters.initialize(repeating: lzma_filter(id: XZ.unknown, options: nil))
                filters[0] = lzma_filter(id: XZ.lzma2, options: options)
                // Safety: capacity 2 is never an empty buffer.
                return body(filters.baseAddress.unsafelyUnwrapped)
            }
        }
    }

    private static func headerByteCount(_ bytes: UnsafeRawBufferPointer) throws(CodecError) -> Int {
        // Section 3.1.1: the real size is four times the byte plus four; 0 would be the index.
        guard let first = bytes.first, first != 0, bytes.count >= (Int(first) + 1) * 4 else {
            throw CodecError("xz: no whole header of a block")
        }
        return (Int(first) + 1) * 4
    }

    /// Runs `body` with the decoded header of the block at the start of `bytes`.
    private static func withHeader<Value>(
        of bytes: UnsafeRawBufferPointer, _ body: (UnsafeMutablePointer<lzma_block>) -> Value
    ) throws(CodecError) -> Value {
        let byteCount = try headerByteCount(bytes)
        return try withUnsafeTemporaryAllocation(of: lzma_filter.self, capacity: Int(LZMA_FILTERS_MAX) + 1) { filters in
            Result { () throws(CodecError) in
                filters.initialize(repeating: lzma_filter(id: XZ.unknown, options: nil))
                var block = lzma_block()
                block.version = 1
                block.check = XZ.check
                block.header_size = UInt32(byteCount)
                block.filters = filters.baseAddress
                let result = lzma_block_header_decode(&block, nil, bytes.bindMemory(to: UInt8.self).baseAddress)
                guard result == LZMA_OK else { throw XZ.error(result) }
                defer { lzma_filters_free(filters.baseAddress, nil) }
                guard lzma_raw_decoder_memusage(filters.baseAddress) <= memoryLimit else {
                    throw XZ.error(LZMA_MEMLIMIT_ERROR)
                }
                return body(&block)
            }
        }.get()
    }
}

/// Constants and errors common to all parts of .xz files.
enum XZ {
    /// The content check in files of Reforge: the xz tool's default.
    static let check = LZMA_CHECK_CRC64
    /// LZMA_FILTER_LZMA2 (section 5.3.1); a macro that Swift cannot import.
    static let lzma2: lzma_vli = 0x21
    /// LZMA_VLI_UNKNOWN.
    static let unknown = lzma_vli.max
    /// LZMA_VLI_MAX.
    static let largestNumber = lzma_vli.max / 2

    /// The error for a result of liblzma.
    static func error(_ result: lzma_ret) -> CodecError {
        switch result {
        case LZMA_MEM_ERROR: CodecError("xz: no memory")
        case LZMA_MEMLIMIT_ERROR:
            CodecError("xz: it takes too much memory to decompress (made with a larger dictionary than xz -9 has)")
        case LZMA_FORMAT_ERROR: CodecError("xz: not the .xz format")
        case LZMA_OPTIONS_ERROR: CodecError("xz: a filter or an option that this program does not know")
        case LZMA_UNSUPPORTED_CHECK: CodecError("xz: a kind of checksum that this program does not know")
        case LZMA_DATA_ERROR: CodecError("xz: damaged data")
        case LZMA_BUF_ERROR: CodecError("xz: cut off, or longer than declared")
        default: CodecError("xz: error \(result.rawValue)")
        }
    }
}
