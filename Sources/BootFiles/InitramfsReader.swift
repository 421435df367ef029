// SPDX-License-Identifier: GPL-3.0-or-later

/// Reads an initramfs as Linux unpacks it (init/initramfs.c): at a multiple of 4 bytes, an uncompressed cpio archive or
/// a compressed stream of such segments, with NUL bytes between them.
package struct InitramfsReader {
    /// Decompresses a stream in a format without a built-in codec, by `InitramfsCompression.program`.
    package typealias Unpacker = (InitramfsCompression, any ByteStream) throws(BootFileError) -> any ByteStream

    private let limits: InitramfsLimits
    private let unpack: Unpacker
    private var result = Initramfs()

    private init(_ limits: InitramfsLimits, _ unpack: @escaping Unpacker) {
        self.limits = limits
        self.unpack = unpack
    }

    /// Reads the whole stream.
    /// - Parameter unpack: for formats without a built-in codec; by default they are an error.
    /// - Throws: `BootFileError` if it is damaged, exceeds a limit, or cannot be decompressed.
    package static func read(
        _ stream: any ByteStream, limits: InitramfsLimits = InitramfsLimits(),
        unpack: @escaping Unpacker = InitramfsReader.refuse
    ) throws(BootFileError) -> Initramfs {
        var reader = InitramfsReader(limits, unpack)
        try reader.readSegments(stream, depth: 0)
        guard !reader.result.names.isEmpty else { throw .damaged(what: "it holds no archive") }
        return reader.result
    }

    /// The unpacker of a machine without programs.
    package static func refuse(
        _ compression: InitramfsCompression, _: any ByteStream
    ) throws(BootFileError) -> any ByteStream {
        throw .noDecoder(format: compression.rawValue, program: compression.program?.first ?? "decoder")
    }

    private mutating func readSegments(_ stream: any ByteStream, depth: Int) throws(BootFileError) {
        guard depth < InitramfsLimits.depth else { throw .damaged(what: "compressed streams are nested too deeply") }
        let left = limits.unpackedByteCount - min(limits.unpackedByteCount, result.unpackedByteCount)
        let cursor = StreamCursor(stream, limit: left)
        // The bytes of this stream up to here that are counted, or are compressed.
        var counted: UInt64 = 0
        while try cursor.skipZeros() != nil {
            if cursor.position % 4 == 0, CPIOHeader.isMagic(try cursor.peek(6)) {
                try readArchive(cursor)
                continue
            }
            let head = try cursor.peek(InitramfsCompression.headByteCount)
            guard let compression = InitramfsCompression(head: head) else {
                throw .damaged(
                    what: "the segment at byte \(cursor.position) is neither a cpio archive nor a compressed stream")
            }
            guard result.compressions.count < InitramfsLimits.compressedCount else {
                throw .tooLarge(what: "it has more than \(InitramfsLimits.compressedCount) compressed streams")
            }
            result.compressions.append(compression)
            result.unpackedByteCount += cursor.position - counted
            guard let inner = try DecompressedStream(compression, cursor) else {
                // A program reads to the end of its input: archives behind such a stream are not seen.
                try readSegments(try unpack(compression, cursor), depth: depth + 1)
                return
            }
            try readSegments(inner, depth: depth + 1)
            cursor.giveBack(inner.rest)
            counted = cursor.position
        }
        result.unpackedByteCount += cursor.position - counted
    }

    private mutating func readArchive(_ cursor: StreamCursor) throws(BootFileError) {
        while true {
            // An archive may end without a trailer, like that of a tool that appends another one.
            guard try !cursor.peek(1).isEmpty else { return }
            let header = try CPIOHeader(cursor.take(CPIOHeader.byteCount, "the header of an entry"))
            let rawName = try cursor.take(header.nameByteCount, "the name of an entry")
            // The padding of the last entry may be missing.
            let name = Self.plain(rawName)
            try cursor.skip(header.namePadding, "the name of an entry")
            if name == "TRAILER!!!" {
                try cursor.skip(header.contentByteCount, "the trailer")
                return
            }
            result.add(name)
            guard result.names.count <= limits.entryCount, result.nameByteCount <= limits.nameByteCount else {
                throw .tooLarge(what: "it has more than \(result.names.count - 1) entries")
            }
            if header.isRegularFile, header.contentByteCount > 0, header.contentByteCount <= limits.fileByteCount,
                result.files.count < limits.fileCount, Initramfs.isWanted(name)
            {
                result.keep(try cursor.take(Int(header.contentByteCount), name), of: name)
            } else {
                try cursor.skip(header.contentByteCount, "the contents of an entry")
            }
            if try !cursor.peek(1).isEmpty { try cursor.skip(header.contentPadding, "the contents of an entry") }
        }
    }

    /// A name without its NUL and without a leading "./" or "/".
    private static func plain(_ bytes: [UInt8]) -> String {
        var name = Substring(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
        while true {
            if name.hasPrefix("./") {
                name = name.dropFirst(2)
            } else if name.hasPrefix("/") {
                name = name.dropFirst()
            } else {
                return name == "." ? "" : String(name)
            }
        }
    }
}
