// SPDX-License-Identifier: GPL-3.0-or-later
import CLZMA

@testable import Codecs

/// Reads the indexes of an .xz file without decompressing it: names the next range to read, and takes its bytes, until
/// no range is left.
final class XZFileSurveyor {
    private let stream: UnsafeMutablePointer<lzma_stream>
    private let index: UnsafeMutablePointer<OpaquePointer?>
    private let fileByteCount: UInt64
    /// Where it wants bytes from; `nil` once it knows all.
    private(set) var wanted: UInt64? = 0
    /// Indexes of more blocks than this much memory holds are refused: some four million.
    private static let memoryLimit: UInt64 = 64 << 20

    /// A surveyor of a file of this length.
    init(fileByteCount: UInt64) throws(CodecError) {
        self.fileByteCount = fileByteCount
        stream = .allocate(capacity: 1)
        stream.initialize(to: lzma_stream())
        index = .allocate(capacity: 1)
        index.initialize(to: nil)
        let result = lzma_file_info_decoder(stream, index, Self.memoryLimit, fileByteCount)
        guard result == LZMA_OK else { throw XZ.error(result) }
    }

    deinit {
        lzma_end(stream)
        stream.deallocate()
        if let made = index.pointee { lzma_index_end(made, nil) }
        index.deallocate()
    }

    /// Takes bytes from the place that it wanted; at least one, unless the file ends there.
    func take(_ bytes: UnsafeRawBufferPointer) throws(CodecError) {
        guard let position = wanted else { return }
        stream.pointee.next_in = bytes.bindMemory(to: UInt8.self).baseAddress
        stream.pointee.avail_in = bytes.count
        let end = position.addingReportingOverflow(UInt64(bytes.count)).partialValue
        let result = lzma_code(stream, end >= fileByteCount ? LZMA_FINISH : LZMA_RUN)
        switch result {
        case LZMA_OK: wanted = end - UInt64(stream.pointee.avail_in)
        case LZMA_SEEK_NEEDED: wanted = stream.pointee.seek_pos
        case LZMA_STREAM_END: wanted = nil
        default: throw XZ.error(result)
        }
    }

    /// The length of all contents in bytes; 0 before it knows.
    var contentByteCount: UInt64 { index.pointee.map { lzma_index_uncompressed_size($0) } ?? 0 }
    /// The number of blocks.
    var blockCount: UInt64 { index.pointee.map { lzma_index_block_count($0) } ?? 0 }
    /// The number of streams.
    var streamCount: UInt64 { index.pointee.map { lzma_index_stream_count($0) } ?? 0 }
}
