// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Reads an image sequentially, plain or encrypted, from a file or a pipe, and verifies everything: records must follow
/// the regions without holes, and the end must confirm every record read.
package final class ImageStreamReader: ImageReader {
    /// The image's name in messages.
    package let name: String
    /// The header.
    package let header: ImageHeader
    /// The footer; `nil` until the end is reached and verified.
    package private(set) var footer: ImageFooter?
    private var lateFacts: LateFacts?
    /// The id and the late facts; `nil` until the end is reached and verified.
    package var ending: ImageEnding? {
        guard let footer, let lateFacts else { return nil }
        return ImageEnding(id: footer.imageID, lateFacts: lateFacts)
    }
    /// zstd frames, named by SHA-256, sealed in an encrypted image.
    package var coding: ChunkCoding { framing.coding(level: header.manifest.level) }
    /// Whether it is encrypted.
    package var isEncrypted: Bool { framing.sealer != nil }
    /// The bytes read so far.
    package var position: UInt64 { source.position }

    private let source: ByteSource
    private var identity = ContentHash.Running()
    /// The running identity after the header, computed over the bytes in the file, as another encoder may have written
    /// them.
    let headerIdentity: ContentHash.Running
    let framing: ImageFraming
    private var sequence: RecordSequence
    private var recordCount: UInt64 = 0
    private var pending: (record: ChunkRecord, unread: Int)?
    /// The offset of the next record's frame.
    private var nextFrame: UInt64
    /// The step that `nextRecord` is in, or failed in.
    private enum Step { case run, record, end }
    private var step = Step.record
    /// The payload read of a damaged record.
    private var damagedPayload: [UInt8]?
    /// The payload of the next record, recovered because its frame is damaged.
    private var recoveredPayload: [UInt8]?
    /// The number of the last record whose payload was recovered.
    private var recoveredNumber: UInt64?
    private var index: ImageIndex?

    /// Reads the header.
    /// - Parameters:
    ///   - cancellation: ends the wait for a pipe that a signal interrupts.
    ///   - unlock: asked for the keys of an encrypted image.
    package init(
        _ descriptor: FileDescriptor, name: String, cancellation: Cancellation = Cancellation(),
        unlock: EncryptedImage.Unlock = EncryptedImage.withoutPassword
    ) throws(ImageError) {
        self.name = name
        source = ByteSource(descriptor, name: name, cancellation)
        let front = try ImageFront(from: source, unlock: unlock)
        framing = front.framing
        header = try ImageHeader(payload: front.headerPayload, name: name)
        identity.update(front.headerPayload)
        headerIdentity = identity
        sequence = RecordSequence(header)
        nextFrame = source.position
    }

    /// Uses the index at the end of the file for records with damaged frames.
    /// - Parameter image: the same file, with its end verified.
    package func useIndex(of image: ImageFile) {
        guard source.isSeekable else { return }
        index = ImageIndex(
            PositionedReader(file: source.descriptor, name: name, at: image.footer.indexOffset), framing)
    }

    /// The next record, or `nil` once the end is reached and everything is verified.
    ///
    /// Stored bytes of the previous record that were not read (`readStored`) are skipped.
    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        if footer != nil { return nil }
        step = .run
        try passOver()
        let frameOffset = nextFrame
        guard !sequence.isAtEnd else {
            step = .end
            try readEnd()
            return nil
        }
        step = .record
        damagedPayload = nil
        let payload: [UInt8]
        if let recoveredPayload {
            payload = recoveredPayload
            self.recoveredPayload = nil
        } else {
            payload = try framing.payload(
                .record, number: recordCount, limit: ImageFormat.recordByteCount, from: source)
        }
        let record: ChunkRecord
        do {
            record = try ChunkRecord(payload: payload)
            try sequence.check(record)
            try checkStored(record)
        } catch {
            // No part of the record can be trusted, but it must have described the next chunk.
            damagedPayload = payload
            throw damaged("\(error)", at: frameOffset, sequence.nextChunk)
        }
        var entry = payload
        entry.appendLittleEndian(frameOffset)
        identity.update(entry)
        recordCount += 1
        sequence.advance(over: record)
        pending = (record, record.storedByteCount)
        nextFrame = source.position + UInt64(record.storedByteCount)
        return record
    }

    /// Skips a run's frames, which only repeat its record; recovers a damaged record from the index; without an index,
    /// skips its chunk by the length in the damaged record.
    package func passDamage() -> Bool {
        do throws(ImageError) {
            switch step {
            case .run:
                try source.move(to: nextFrame)
                return true
            case .record: return try passRecord()
            case .end: return false
            }
        } catch { return false }
    }

    private func passRecord() throws(ImageError) -> Bool {
        // A recovered payload that was still refused.
        guard recoveredNumber != recordCount else { return false }
        if let index {
            let (payload, frameOffset) = try index.entry(recordCount)
            guard frameOffset == nextFrame else { return false }
            try source.move(to: frameOffset + UInt64(framing.frameByteCount(ImageFormat.recordByteCount)))
            recover(payload)
            return true
        }
        guard framing.sealer == nil else { return false }
        var payload = damagedPayload ?? []
        guard payload.count <= ImageFormat.recordByteCount else { return false }
        payload += try source.bytes(ImageFormat.recordByteCount - payload.count)
        // Only the frame's mark was damaged.
        if (try? ChunkRecord(payload: payload)) != nil {
            recover(payload)
            return true
        }
        guard payload[4] == RangeKind.data.rawValue, let byteCount = try? payload.littleEndian(UInt32.self, at: 24)
        else { return false }
        // If the record of the next chunk is found there, the length was right; any other record is refused.
        nextFrame = source.position + UInt64(byteCount)
        try source.move(to: nextFrame)
        sequence.passChunk()
        recordCount += 1
        return true
    }

    private func recover(_ payload: [UInt8]) {
        recoveredPayload = payload
        recoveredNumber = recordCount
    }

    /// Reads the complete frame stored for the last record into `buffer`.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let (_, unread) = pending, unread == buffer.count else { return }
        pending = nil
        unsafe try source.read(into: buffer)
    }

    /// A closure that reads the stored bytes of the last record at any time; `nil` for a pipe.
    package func storedFetch() -> StoredFetch? {
        guard source.isSeekable, let (record, unread) = pending, unread == record.storedByteCount else { return nil }
        let (descriptor, calls, offset) = (source.descriptor, source.calls, source.position)
        return { target throws(ImageError) in
            unsafe try PositionedReader.fill(target, descriptor, at: offset, calls)
        }
    }

    private func damaged(_ what: String, at fileOffset: UInt64, _ range: ByteRange?) -> ImageError {
        damageReporter(what, fileOffset, range)
    }

    /// Checks that the stored length of a record is plausible.
    private func checkStored(_ record: ChunkRecord) throws(ParsingError) {
        if record.kind == .data {
            let bound = ZstdCompressor.bound(Int(record.range.byteCount)) + (isEncrypted ? Sealer.overheadByteCount : 0)
            guard record.storedByteCount > (isEncrypted ? Sealer.overheadByteCount : 0), record.storedByteCount <= bound
            else { throw .invalid(what: "a chunk's length") }
        } else {
            let frames = runFrames(record).reduce(0) { $0 + ZeroFrame.frameByteCount(zeros: $1) }
            guard record.storedByteCount == frames else { throw .invalid(what: "a run's length") }
        }
    }

    /// The contents of the frames behind a run's record; an encrypted image has none.
    private func runFrames(_ record: ChunkRecord) -> [UInt64] {
        isEncrypted ? [] : ZeroRun.frameLengths(record.range.byteCount)
    }

    /// Skips the stored bytes of the last record if unread. A run's frames are verified, as they have only one valid
    /// form.
    private func passOver() throws(ImageError) {
        guard let (record, unread) = pending else { return }
        pending = nil
        if record.kind == .data {
            try source.skip(unread)
            return
        }
        for length in runFrames(record) {
            let offset = source.position
            let expected = ZeroFrame.bytes(zeros: length)
            guard try source.bytes(expected.count) == expected else {
                throw damaged("a run's frames", at: offset, record.range)
            }
        }
    }

    private func readEnd() throws(ImageError) {
        let end = try ImageEnd(from: source, framing, recordCount: recordCount, headerIdentity: headerIdentity)
        // The index repeats every record, so both identities must be equal.
        guard end.footer.imageID == identity.finish() else {
            throw damaged("the footer does not confirm the records", at: source.position, nil)
        }
        guard try source.isAtEnd() else { throw damaged("something follows the footer", at: source.position, nil) }
        lateFacts = end.lateFacts
        footer = end.footer
    }
}

/// Sequential bytes of a file or a pipe.
final class ByteSource: FrameSource {
    let descriptor: FileDescriptor
    /// Whether it is a regular file, readable at any offset.
    let isSeekable: Bool
    let name: String
    let calls: PendingCalls
    private let cancellation: Cancellation
    private var buffer: [UInt8] = []
    private var start = 0
    private(set) var position: UInt64 = 0

    init(_ descriptor: FileDescriptor, name: String, _ cancellation: Cancellation) {
        self.cancellation = cancellation
        self.descriptor = descriptor
        self.name = name
        calls = PendingCalls(name, on: descriptor)
        isSeekable = (try? Stat(descriptor))?.type == .regular
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
            // If this is past the end, the next read reports it.
            position += UInt64(byteCount)
            return
        }
        while rest > 0 {
            let part = min(rest, 1 << 20)
            _ = try bytes(part)
            rest -= part
        }
    }

    /// Moves to an offset of the file; only forward in a pipe.
    func move(to place: UInt64) throws(ImageError) {
        guard isSeekable else {
            guard place >= position, let byteCount = Int(exactly: place - position) else {
                throw .truncated(name: name, at: position)
            }
            return try skip(byteCount)
        }
        (buffer, start) = ([], 0)
        do { try descriptor.seek(offset: Int64(clamping: place), from: .start) } catch {
            throw .system(SystemCallError("seek in", name, error as? Errno ?? .ioError))
        }
        position = place
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
            do {
                return try calls.during(.read) { unsafe try descriptor.read(into: target, retryOnInterrupt: false) }
            } catch {
                let errno = error as? Errno ?? .ioError
                // A pipe may have nothing for a long time: a signal must get through.
                if errno == .interrupted, !cancellation.isRequested { continue }
                throw .system(SystemCallError("read", name, errno))
            }
        }
    }
}
