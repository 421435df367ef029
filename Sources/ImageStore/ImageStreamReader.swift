// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage

/// Reads an image front to back, from a file or a pipe, and believes nothing before it is checked: records must follow
/// the regions without holes, and the end must confirm every record that was seen.
public final class ImageStreamReader: CaptureReader {
    /// How messages call the image.
    public let name: String
    /// The header.
    public let header: ImageHeader
    /// The footer; `nil` until the end was reached and confirmed.
    public private(set) var footer: ImageFooter?
    private var lateFacts: LateFacts?
    /// The id and the late facts; `nil` until the end was reached and confirmed.
    public var ending: CaptureEnding? {
        guard let footer, let lateFacts else { return nil }
        return CaptureEnding(id: footer.imageID, lateFacts: lateFacts)
    }
    /// zstd frames, named by SHA-256.
    public var coding: ChunkCoding { ChunkCoding(codec: .zstd(level: header.manifest.level)) }
    /// How much was read, in bytes.
    public var position: UInt64 { source.position }

    private let source: ByteSource
    private var identity = ContentHash.Running()
    /// The identity up to the header, of the bytes as they are in the file: another encoder may have made them.
    let headerIdentity: ContentHash.Running
    private var recordCount: UInt64 = 0
    private var diskPosition: UInt64 = 0
    private var regionIndex = 0
    private var pending: (record: ChunkRecord, unread: Int)?

    /// Reads the header.
    public init(_ descriptor: FileDescriptor, name: String) throws(ImageError) {
        self.name = name
        source = ByteSource(descriptor, name: name)
        guard let payload = try source.skippableFrame(limit: ImageHeader.largestPayload, isFirst: true) else {
            throw .foreign(name: name, why: "it is empty")
        }
        header = try ImageHeader(payload: payload, name: name)
        identity.update(payload)
        headerIdentity = identity
    }

    /// The next record, or `nil` once the end was reached and everything was confirmed.
    ///
    /// What is stored behind the record before must have been read (`readStored`) or is passed over.
    public func nextRecord() throws(ImageError) -> ChunkRecord? {
        if footer != nil { return nil }
        try passOver()
        let frameOffset = source.position
        guard diskPosition < header.manifest.geometry.byteCount else {
            try readEnd()
            return nil
        }
        guard let payload = try source.skippableFrame(limit: ImageFormat.recordByteCount) else {
            throw .truncated(name: name, at: source.position)
        }
        let record: ChunkRecord
        do {
            record = try ChunkRecord(payload: payload)
            try check(record)
        } catch {
            // Nothing of the record can be believed; but it must have been about what comes next.
            throw damaged("\(error)", at: frameOffset, diskPosition..<nextBoundary)
        }
        var entry = payload
        entry.appendLittleEndian(frameOffset)
        identity.update(entry)
        recordCount += 1
        diskPosition = record.range.upperBound
        if diskPosition == header.manifest.regions[regionIndex].range.upperBound { regionIndex += 1 }
        pending = (record, record.storedByteCount)
        return record
    }

    /// Reads the frame that is stored behind the last record, all of it, into `buffer`.
    public func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let (_, unread) = pending, unread == buffer.count else { return }
        pending = nil
        unsafe try source.read(into: buffer)
    }

    /// How to read what is stored for the last record at any time; `nil` for a pipe.
    public func storedFetch() -> StoredFetch? {
        guard source.isSeekable, let (record, unread) = pending, unread == record.storedByteCount else { return nil }
        let (descriptor, name, offset) = (source.descriptor, name, source.position)
        return { target throws(ImageError) in
            unsafe try PositionedReader.fill(target, descriptor, at: offset, name: name)
        }
    }

    private func damaged(_ what: String, at fileOffset: UInt64, _ range: ByteRange?) -> ImageError {
        damageReporter(what, fileOffset, range)
    }

    /// Makes such errors on other threads: what is wrong, where in the file, which bytes of the disk.
    public var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError {
        { [name, regions = header.manifest.regions] what, fileOffset, range in
            .damaged(
                name: name, what: what, fileOffset: fileOffset, disk: range,
                partition: range.flatMap { range in regions.first { $0.range.overlaps(range) }?.partition })
        }
    }

    /// Where the chunk that starts at the position ends.
    private var nextBoundary: UInt64 {
        guard regionIndex < header.manifest.regions.count else { return diskPosition }
        let end = header.manifest.regions[regionIndex].range.upperBound
        return min(end, diskPosition.addingReportingOverflow(UInt64(header.manifest.chunkByteCount)).partialValue)
    }

    /// A record must be the next one: right place, right region, on the chunk grid, with a believable length.
    private func check(_ record: ChunkRecord) throws(ParsingError) {
        let manifest = header.manifest
        guard regionIndex < manifest.regions.count, record.region == regionIndex,
            record.range.lowerBound == diskPosition,
            record.range.upperBound <= manifest.regions[regionIndex].range.upperBound
        else { throw .invalid(what: "a record that does not follow the one before") }
        let region = manifest.regions[regionIndex].range
        let chunk = UInt64(manifest.chunkByteCount)
        switch record.kind {
        case .data:
            guard record.range.upperBound == nextBoundary, record.storedByteCount > 0,
                record.storedByteCount <= ZstdCompressor.bound(Int(record.range.byteCount))
            else { throw .invalid(what: "a chunk's length") }
        case .zero, .unused:
            guard record.range.byteCount <= ImageFormat.longestRun,
                record.range.upperBound == region.upperBound
                    || (record.range.upperBound - region.lowerBound) % chunk == 0,
                record.storedByteCount
                    == ZeroRun.frameLengths(record.range.byteCount).reduce(
                        0, { $0 + ZeroFrame.frameByteCount(zeros: $1) })
            else { throw .invalid(what: "a run's length") }
            // A run called unused must be unused: the map is the judge of what may be dropped.
            let relative = record.range.lowerBound - region.lowerBound..<record.range.upperBound - region.lowerBound
            guard record.kind == .zero || header.maps[regionIndex].ranges(in: relative).isEmpty else {
                throw .invalid(what: "a run called unused where the map says used")
            }
        }
    }

    /// Reads what is stored behind the last record where nobody else did. A run's frames have one form only.
    private func passOver() throws(ImageError) {
        guard let (record, unread) = pending else { return }
        pending = nil
        if record.kind == .data {
            try source.skip(unread)
            return
        }
        for length in ZeroRun.frameLengths(record.range.byteCount) {
            let offset = source.position
            let expected = ZeroFrame.bytes(zeros: length)
            guard try source.bytes(expected.count) == expected else {
                throw damaged("a run's frames", at: offset, record.range)
            }
        }
    }

    private func readEnd() throws(ImageError) {
        let indexOffset = source.position
        do {
            // The index repeats every record: the same identity must come out of both.
            var indexIdentity = headerIdentity
            var indexCount: UInt64 = 0
            while indexCount < recordCount {
                let payload = try nextFrame(4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount)
                let entries = Array(payload.dropFirst(4))
                guard Array(payload.prefix(4)) == ImageFormat.indexTag, !entries.isEmpty,
                    entries.count % ImageFormat.indexEntryByteCount == 0
                else { throw damaged("the index", at: indexOffset, nil) }
                indexIdentity.update(entries)
                indexCount += UInt64(entries.count / ImageFormat.indexEntryByteCount)
            }
            let lateFactsOffset = source.position
            let latePayload = try nextFrame(16 << 20)
            guard Array(latePayload.prefix(4)) == ImageFormat.lateFactsTag else {
                throw damaged("the late facts", at: lateFactsOffset, nil)
            }
            let json = Array(latePayload.dropFirst(4))
            let footerOffset = source.position
            let footer = try ImageFooter(payload: try nextFrame(ImageFormat.footerByteCount))
            guard footer.imageID == identity.finish(), footer.imageID == indexIdentity.finish(),
                footer.recordCount == recordCount, indexCount == recordCount, footer.indexOffset == indexOffset,
                footer.lateFactsOffset == lateFactsOffset, footer.fileByteCount == source.position,
                footer.lateFactsHash == ContentHash(of: json)
            else { throw damaged("the footer does not confirm the records", at: footerOffset, nil) }
            lateFacts = try JSONText.decode(LateFacts.self, json)
            guard try source.isAtEnd() else { throw damaged("something follows the footer", at: source.position, nil) }
            self.footer = footer
        } catch let error as ImageError {
            throw error
        } catch {
            throw damaged("the end of the image: \(error)", at: source.position, nil)
        }
    }

    private func nextFrame(_ limit: Int) throws(ImageError) -> [UInt8] {
        guard let payload = try source.skippableFrame(limit: limit) else {
            throw .truncated(name: name, at: source.position)
        }
        return payload
    }
}

/// Bytes of a file or a pipe, front to back.
final class ByteSource {
    let descriptor: FileDescriptor
    /// Whether it is a file, in which any place can be read at any time.
    let isSeekable: Bool
    private let name: String
    private var buffer: [UInt8] = []
    private var start = 0
    private(set) var position: UInt64 = 0

    init(_ descriptor: FileDescriptor, name: String) {
        self.descriptor = descriptor
        self.name = name
        isSeekable = (try? Stat(descriptor))?.type == .regular
    }

    /// The payload of a skippable frame of ours; `nil` at the end of the input.
    func skippableFrame(limit: Int, isFirst: Bool = false) throws(ImageError) -> [UInt8]? {
        if try isAtEnd() { return nil }
        let offset = position
        let head: [UInt8]
        do { head = try bytes(8) } catch .truncated where isFirst {
            throw .foreign(name: name, why: "it is too short")
        }
        do {
            guard try head.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic else {
                throw ParsingError.invalid(what: "a frame's mark")
            }
            let byteCount = Int(try head.littleEndian(UInt32.self, at: 4))
            guard byteCount <= limit else { throw ParsingError.invalid(what: "a frame of \(byteCount) bytes") }
            return try bytes(byteCount)
        } catch let error as ImageError {
            throw error
        } catch {
            throw isFirst
                ? .foreign(name: name, why: "it does not start like one")
                : .damaged(name: name, what: "\(error)", fileOffset: offset, disk: nil, partition: nil)
        }
    }

    func bytes(_ byteCount: Int) throws(ImageError) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: byteCount)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try read(into: buffer) }
        }
        try outcome.get()
        return result
    }

    /// Fills all of `target`.
    func read(into target: UnsafeMutableRawBufferPointer) throws(ImageError) {
        var done = min(buffer.count - start, target.count)
        if done > 0 {
            unsafe buffer.withUnsafeBytes { held in
                unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: held[start..<start + done]))
            }
            start += done
            position += UInt64(done)
        }
        while done < target.count {
            let count = unsafe try readOnce(UnsafeMutableRawBufferPointer(rebasing: target[done...]))
            guard count > 0 else { throw .truncated(name: name, at: position) }
            done += count
            position += UInt64(count)
        }
    }

    func skip(_ byteCount: Int) throws(ImageError) {
        var rest = byteCount
        if isSeekable {
            let held = min(buffer.count - start, rest)
            start += held
            rest -= held
            do { try descriptor.seek(offset: Int64(rest), from: .current) } catch {
                throw .system(SystemCallError("seek in", name, error as? Errno ?? .ioError))
            }
            // Past the end: what is missing is missed by whoever reads next.
            position += UInt64(byteCount)
            return
        }
        while rest > 0 {
            let part = min(rest, 1 << 20)
            _ = try bytes(part)
            rest -= part
        }
    }

    func isAtEnd() throws(ImageError) -> Bool {
        guard start == buffer.count else { return false }
        start = 0
        buffer = [UInt8](repeating: 0, count: 4096)
        let count: Int
        do {
            let outcome = unsafe buffer.withUnsafeMutableBytes { held in
                Result { () throws(ImageError) in unsafe try readOnce(held) }
            }
            count = try outcome.get()
        } catch {
            buffer = []
            throw error
        }
        buffer.removeLast(buffer.count - count)
        return count == 0
    }

    private func readOnce(_ target: UnsafeMutableRawBufferPointer) throws(ImageError) -> Int {
        while true {
            do { return unsafe try descriptor.read(into: target, retryOnInterrupt: false) } catch {
                let errno = error as? Errno ?? .ioError
                // A pipe may have nothing for a long time: a signal must get through.
                if errno == .interrupted, !Interruption.isRequested { continue }
                throw .system(SystemCallError("read", name, errno))
            }
        }
    }
}
