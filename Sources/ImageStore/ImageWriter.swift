// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage

/// Writes an image front to back; never seeks, so that it can go into a pipe.
public final class ImageWriter: CaptureSink, @unchecked Sendable {
    // @unchecked: what changes is touched only by the one thread that appends.
    private let output: FileDescriptor
    private let name: String
    /// zstd frames, named by SHA-256.
    public let coding: ChunkCoding
    private var dataByteCount: UInt64 = 0
    /// How much has been written, in bytes.
    public private(set) var byteCount: UInt64 = 0
    private var identity = ContentHash.Running()
    private var index: [UInt8] = []
    private var recordCount: UInt64 = 0

    /// Writes the header.
    /// - Parameters:
    ///   - output: where the image goes; stays open.
    ///   - name: how messages call it.
    public init(to output: FileDescriptor, name: String, header: ImageHeader) throws {
        self.output = output
        self.name = name
        coding = ChunkCoding(codec: .zstd(level: header.manifest.level))
        let payload = try header.payload()
        identity.update(payload)
        try write(ImageFormat.frame(payload))
    }

    /// An image holds every chunk itself.
    public func holds(_ id: ContentHash) -> Bool { false }

    /// Appends a chunk of data: its record, and the zstd frame behind it.
    public func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws(SystemCallError) {
        note(record)
        dataByteCount += record.range.byteCount
        try write(record.frame)
        if let stored = unsafe stored { unsafe try write(stored) }
    }

    /// Appends a run without data: zeros as far as other decoders are concerned.
    public func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws(SystemCallError) {
        var position = range.lowerBound
        while position < range.upperBound {
            let part = position..<min(range.upperBound, position + ImageFormat.longestRun)
            position = part.upperBound
            let lengths = ZeroRun.frameLengths(part.byteCount)
            let stored = lengths.reduce(0) { $0 + ZeroFrame.frameByteCount(zeros: $1) }
            let record = ChunkRecord(kind: kind, region: region, range: part, storedByteCount: stored, hash: nil)
            note(record)
            try write(record.frame)
            for length in lengths { try write(ZeroFrame.bytes(zeros: length)) }
        }
    }

    /// Writes index, late facts and footer.
    public func finish(_ facts: LateFacts) throws -> CaptureSummary {
        let indexOffset = byteCount
        var first = 0
        while first < index.count {
            let end = min(index.count, first + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount)
            try write(ImageFormat.frame(ImageFormat.indexTag + index[first..<end]))
            first = end
        }
        let lateFactsOffset = byteCount
        let json = try JSONText.encode(facts)
        try write(ImageFormat.frame(ImageFormat.lateFactsTag + json))
        let footer = ImageFooter(
            indexOffset: indexOffset, recordCount: recordCount, lateFactsOffset: lateFactsOffset,
            fileByteCount: byteCount + UInt64(8 + ImageFormat.footerByteCount), imageID: identity.finish(),
            lateFactsHash: ContentHash(of: json))
        try write(ImageFormat.frame(footer.payload))
        return CaptureSummary(id: footer.imageID, storedByteCount: byteCount, newByteCount: dataByteCount)
    }

    private func note(_ record: ChunkRecord) {
        var entry = record.payload
        entry.appendLittleEndian(byteCount)
        identity.update(entry)
        index += entry
        recordCount += 1
    }

    private func write(_ bytes: [UInt8]) throws(SystemCallError) {
        let result = unsafe bytes.withUnsafeBytes { buffer in
            Result { () throws(SystemCallError) in unsafe try write(buffer) }
        }
        try result.get()
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        do { _ = unsafe try output.writeAll(bytes) } catch {
            throw SystemCallError(
                "write \(ByteText.exact(UInt64(bytes.count))) at byte \(byteCount) of", name,
                error as? Errno ?? .ioError)
        }
        byteCount += UInt64(bytes.count)
    }
}

/// How a run of zeros is cut in frames.
enum ZeroRun {
    /// The contents of the frames, in bytes.
    static func frameLengths(_ byteCount: UInt64) -> [UInt64] {
        let whole = Int(byteCount / ZeroFrame.largestContent)
        let rest = byteCount % ZeroFrame.largestContent
        return [UInt64](repeating: ZeroFrame.largestContent, count: whole) + (rest > 0 ? [rest] : [])
    }
}
