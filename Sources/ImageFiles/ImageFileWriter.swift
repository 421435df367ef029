// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Writes an image sequentially, plain or encrypted; never seeks, so the output can be a pipe.
package final class ImageFileWriter: ImageWriter, @unchecked Sendable {
    // @unchecked: only the appending thread touches mutable state.
    private let output: FileDescriptor
    private let name: String
    private let calls: PendingCalls
    private let framing: ImageFraming
    /// zstd frames, named by SHA-256, sealed in an encrypted image.
    package let coding: ChunkCoding
    private let header: ImageHeader
    private var dataByteCount: UInt64 = 0
    /// The bytes written so far.
    package private(set) var byteCount: UInt64 = 0
    private var identity = ContentHash.Running()
    /// Entries of the unfinished index frame.
    private var entries: [UInt8] = []
    /// Encoded index frames, to be written behind the chunks.
    private var frames: SpilledBytes
    private var frameCount: UInt64 = 0
    private var recordCount: UInt64 = 0

    /// Writes the header.
    /// - Parameters:
    ///   - output: the destination; remains open.
    ///   - name: name in messages.
    ///   - seal: encrypts the image; `nil` for a plain image.
    ///   - scratch: folder for the spilled index of a large image, in its final form: sealed if the image is.
    package init(
        to output: FileDescriptor, name: String, header: ImageHeader, seal: ImageSeal? = nil,
        scratch: FilePath = Files.temporaryFolder
    ) throws {
        frames = SpilledBytes(in: scratch)
        self.output = output
        self.name = name
        calls = PendingCalls(name, on: output)
        framing = seal.map { .sealed($0.keys) } ?? .plain
        self.header = header
        coding = framing.coding(level: header.manifest.level)
        let payload = try header.payload()
        identity.update(payload)
        if let seal { try write(try EncryptedImage.head(seal.wrapped)) }
        try write(try framing.frame(payload, .header))
    }

    /// An image holds every chunk itself.
    package func holds(_ id: ContentHash) -> Bool { false }

    /// Appends a chunk of data: its record, and the (sealed) zstd frame behind it.
    package func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws {
        dataByteCount += header.usedByteCount(of: record)
        try write(record)
        if let stored = unsafe stored { unsafe try write(stored) }
    }

    /// Appends a run without data: zero frames for other decoders; only a record in an encrypted image.
    package func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws {
        var position = range.lowerBound
        while position < range.upperBound {
            let part = position..<min(range.upperBound, position + ImageFormat.longestRun)
            position = part.upperBound
            let lengths = framing.sealer == nil ? ZeroRun.frameLengths(part.byteCount) : []
            let stored = lengths.reduce(0) { $0 + ZeroFrame.frameByteCount(zeros: $1) }
            try write(ChunkRecord(kind: kind, region: region, range: part, storedByteCount: stored, hash: nil))
            for length in lengths { try write(ZeroFrame.bytes(zeros: length)) }
        }
    }

    /// Writes index, late facts and footer.
    package func finish(_ facts: LateFacts) throws -> ImageSummary {
        let indexOffset = byteCount
        if !entries.isEmpty { try endIndexFrame() }
        try frames.drain { try write($0) }
        let lateFactsOffset = byteCount
        let json = try JSONText.encode(facts)
        try write(try framing.frame(ImageFormat.lateFactsTag + json, .lateFacts))
        let footer = ImageFooter(
            indexOffset: indexOffset, recordCount: recordCount, lateFactsOffset: lateFactsOffset,
            fileByteCount: byteCount + UInt64(framing.frameByteCount(ImageFormat.footerByteCount)),
            imageID: identity.finish(), lateFactsHash: ContentHash(of: json))
        try write(try framing.frame(footer.payload, .footer))
        return ImageSummary(id: footer.imageID, storedByteCount: byteCount, newByteCount: dataByteCount)
    }

    private func write(_ record: ChunkRecord) throws {
        let payload = record.payload
        let number = recordCount
        var entry = payload
        entry.appendLittleEndian(byteCount)
        identity.update(entry)
        entries += entry
        recordCount += 1
        if entries.count == ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount { try endIndexFrame() }
        try write(try framing.frame(payload, .record, number: number))
    }

    private func endIndexFrame() throws {
        try frames.append(try framing.frame(ImageFormat.indexTag + entries, .index, number: frameCount))
        frameCount += 1
        entries.removeAll(keepingCapacity: true)
    }

    private func write(_ bytes: [UInt8]) throws(SystemCallError) {
        let result = unsafe bytes.withUnsafeBytes { buffer in
            Result { () throws(SystemCallError) in unsafe try write(buffer) }
        }
        try result.get()
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        do { _ = try calls.during(.write) { unsafe try output.writeAll(bytes) } } catch {
            throw SystemCallError(
                "write \(ByteText.exact(UInt64(bytes.count))) at byte \(byteCount) of", name,
                error as? Errno ?? .ioError)
        }
        byteCount += UInt64(bytes.count)
    }
}

/// The division of a run of zeros into frames.
enum ZeroRun {
    /// The contents of the frames, in bytes.
    static func frameLengths(_ byteCount: UInt64) -> [UInt64] {
        let whole = Int(byteCount / ZeroFrame.largestContent)
        let rest = byteCount % ZeroFrame.largestContent
        return [UInt64](repeating: ZeroFrame.largestContent, count: whole) + (rest > 0 ? [rest] : [])
    }
}
