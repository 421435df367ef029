// SPDX-License-Identifier: GPL-3.0-or-later
import CLZMA

/// The framing around the blocks of an .xz file of one stream (xz 1.2.0, section 2): header, index, footer.
///
/// Keeps the sizes of all blocks, some 16 bytes each.
package final class XZStreamFraming {
    private let index: OpaquePointer

    /// The framing of a file without blocks yet.
    package init() throws(CodecError) {
        guard let index = lzma_index_init(nil) else { throw XZ.error(LZMA_MEM_ERROR) }
        self.index = index
    }

    deinit { lzma_index_end(index, nil) }

    /// The stream header (section 2.1.1) at the start of every .xz file of Reforge.
    package static func header() throws(CodecError) -> [UInt8] {
        var flags = lzma_stream_flags()
        flags.check = XZ.check
        var bytes = [UInt8](repeating: 0, count: Int(LZMA_STREAM_HEADER_SIZE))
        let result = lzma_stream_header_encode(&flags, &bytes)
        guard result == LZMA_OK else { throw XZ.error(result) }
        return bytes
    }

    /// Adds the next block to the index.
    package func append(_ sizes: XZBlock.Sizes) throws(CodecError) {
        let result = lzma_index_append(index, nil, sizes.unpadded, sizes.content)
        guard result == LZMA_OK else { throw XZ.error(result) }
    }

    /// The length of the file so far, including the future `tail`, in bytes.
    package var fileByteCount: UInt64 { lzma_index_file_size(index) }

    /// The index (section 4) and the stream footer (section 2.1.2).
    package func tail() throws(CodecError) -> [UInt8] {
        let indexByteCount = Int(lzma_index_size(index))
        var bytes = [UInt8](repeating: 0, count: indexByteCount)
        var made = 0
        var result = lzma_index_buffer_encode(index, &bytes, &made, indexByteCount)
        guard result == LZMA_OK, made == indexByteCount else { throw XZ.error(result) }
        var flags = lzma_stream_flags()
        flags.check = XZ.check
        flags.backward_size = lzma_vli(indexByteCount)
        var footer = [UInt8](repeating: 0, count: Int(LZMA_STREAM_HEADER_SIZE))
        result = lzma_stream_footer_encode(&flags, &footer)
        guard result == LZMA_OK else { throw XZ.error(result) }
        return bytes + footer
    }
}
