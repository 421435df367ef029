// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// An image file, plain, encrypted or .img.xz, whose records are found through the index at its end. Opening reads both
/// ends; the index stays in the file, and a few of its frames in memory.
package final class IndexedImage: CaptureIndex {
    package let name: String
    package let header: ImageHeader
    package let coding: ChunkCoding
    package let ending: ImageEnding
    private let parts: Parts
    private let frames: [Frame]
    private let held = Monitor<[(frame: Int, entries: [UInt8])]>([])

    /// A frame of the index: up to 65,536 entries.
    private struct Frame {
        /// The place of its first record on the disk.
        var diskStart: UInt64
        var offset: UInt64
        /// Detects a change of the file.
        var hash: ContentHash
    }
    /// Upper bound on the frames in memory, each of 4.5 MiB: half a TiB of a disk, at the default chunk size.
    private static let mostHeld = 4

    /// How a file holds an index and contents.
    @safe struct Parts: Sendable {
        var recordCount: UInt64
        /// The entries of a frame of the index, from its number and offset, and the offset of what follows it.
        var entries: @Sendable (UInt64, UInt64) throws(ImageError) -> (entries: [UInt8], next: UInt64)
        var indexOffset: UInt64
        /// The bytes from the offset in an entry to the content.
        var contentDistance: UInt64
        /// Where all contents end.
        var contentsEnd: UInt64
        var read: @Sendable (UnsafeMutableRawBufferPointer, UInt64) throws(ImageError) -> Void
    }

    /// - Parameter identity: the running hash of the image's id, after the header.
    init(
        name: String, _ header: ImageHeader, _ coding: ChunkCoding, _ ending: ImageEnding,
        identity: ContentHash.Running, _ parts: Parts
    ) throws(ImageError) {
        self.name = name
        self.header = header
        self.coding = coding
        self.ending = ending
        self.parts = parts
        var identity = identity
        var frames: [Frame] = []
        var count: UInt64 = 0
        var place = parts.indexOffset
        while count < parts.recordCount {
            let (entries, next) = try parts.entries(UInt64(frames.count), place)
            guard let start = try? Self.diskStart(of: 0, entries) else {
                throw .damaged(name: name, what: "the index", fileOffset: place, disk: nil, partition: nil)
            }
            identity.update(entries)
            frames.append(Frame(diskStart: start, offset: place, hash: ContentHash(of: entries)))
            count += UInt64(entries.count / ImageFormat.indexEntryByteCount)
            place = next
        }
        // Both ends were checked before: the file has changed since.
        guard identity.finish() == ending.id else { throw .changed(name: name) }
        self.frames = frames
    }

    /// Opens an image.
    /// - Parameters:
    ///   - cancellation: ends a read that a signal interrupts.
    ///   - unlock: asked for the keys of an encrypted image.
    package convenience init(
        _ path: FilePath, cancellation: Cancellation = Cancellation(),
        unlock: EncryptedImage.Unlock = EncryptedImage.withoutPassword
    ) throws(ImageError) {
        let name = path.string
        let file = OpenFile(try ImageFile.openForStreaming(name), name)
        let image = try ImageFile(path, cancellation: cancellation, unlock: unlock)
        // The data is read from the descriptor opened here: the file may have been replaced since its end was checked.
        let stream = try ImageStreamReader(
            file.descriptor.raw, name: name, cancellation: cancellation, unlock: unlock)
        guard image.header == stream.header else { throw .changed(name: name) }
        let framing = stream.framing
        unsafe try self.init(
            name: name, image.header, stream.coding,
            ImageEnding(id: image.footer.imageID, lateFacts: image.lateFacts), identity: stream.headerIdentity,
            Parts(
                recordCount: image.footer.recordCount,
                entries: { number, offset throws(ImageError) in
                    let reader = PositionedReader(file: file.descriptor.raw, name: name, at: offset)
                    let payload = try framing.payload(
                        .index, number: number,
                        limit: 4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount, from: reader)
                    let entries = Array(payload.dropFirst(4))
                    guard Array(payload.prefix(4)) == ImageFormat.indexTag, !entries.isEmpty,
                        entries.count % ImageFormat.indexEntryByteCount == 0
                    else {
                        throw .damaged(name: name, what: "the index", fileOffset: offset, disk: nil, partition: nil)
                    }
                    return (entries, reader.position)
                }, indexOffset: image.footer.indexOffset,
                contentDistance: UInt64(framing.frameByteCount(ImageFormat.recordByteCount)),
                contentsEnd: image.footer.indexOffset,
                read: { buffer, offset throws(ImageError) in
                    unsafe try PositionedReader.fill(buffer, file.descriptor.raw, at: offset, file.calls)
                }))
    }

    package func record(at offset: UInt64) throws(ImageError) -> ChunkRecord { try entry(at: offset).record }

    package func content(at offset: UInt64) throws(ImageError) -> StoredContent {
        let (record, place) = try entry(at: offset)
        do {
            let start = try place.adding(parts.contentDistance, "a chunk's place")
            guard record.kind == .data, record.storedByteCount > 0,
                record.storedByteCount <= ChunkCoding.bound(Int(record.range.byteCount)),
                try start.adding(UInt64(record.storedByteCount), "a chunk's place") <= parts.contentsEnd
            else { throw ParsingError.invalid(what: "a chunk's length") }
            return unsafe StoredContent(
                record, position: start,
                fetch: { [parts] buffer throws(ImageError) in unsafe try parts.read(buffer, start) })
        } catch {
            throw header.damage(name: name, "the index: \(error)", at: parts.indexOffset, record.range)
        }
    }

    /// The record that holds a byte, and the place of its frame or its blocks.
    private func entry(at offset: UInt64) throws(ImageError) -> (record: ChunkRecord, place: UInt64) {
        guard let frame = last(of: frames.count, { frames[$0].diskStart <= offset }) else {
            throw damaged("it has no record for a byte", offset)
        }
        let entries = try entries(of: frame)
        let count = entries.count / ImageFormat.indexEntryByteCount
        let number = last(of: count) { (try? Self.diskStart(of: $0, entries)).map { $0 <= offset } ?? false } ?? 0
        do throws(ParsingError) {
            let entry = try entries.bytes(
                at: number * ImageFormat.indexEntryByteCount, count: ImageFormat.indexEntryByteCount)
            let record = try ChunkRecord(payload: Array(entry[..<ImageFormat.recordByteCount]))
            try header.check(record, at: offset)
            return (record, try entry.littleEndian(at: ImageFormat.recordByteCount))
        } catch { throw damaged("\(error)", offset) }
    }

    private func damaged(_ what: String, _ offset: UInt64) -> ImageError {
        header.damage(
            name: name, "the index: \(what)", at: parts.indexOffset,
            offset..<offset.addingReportingOverflow(1).partialValue)
    }

    /// The entries of a frame, from memory or the file.
    private func entries(of frame: Int) throws(ImageError) -> [UInt8] {
        let result = held.update { held in
            Result { () throws(ImageError) -> [UInt8] in
                if let index = held.firstIndex(where: { $0.frame == frame }) {
                    held.append(held.remove(at: index))
                } else {
                    let entries = try parts.entries(UInt64(frame), frames[frame].offset).entries
                    guard ContentHash(of: entries) == frames[frame].hash else { throw .changed(name: name) }
                    if held.count == Self.mostHeld { held.removeFirst() }
                    held.append((frame, entries))
                }
                return held[held.count - 1].entries
            }
        }
        return try result.get()
    }

    /// The place on the disk of an entry's record.
    private static func diskStart(of entry: Int, _ entries: [UInt8]) throws(ParsingError) -> UInt64 {
        try entries.littleEndian(at: entry * ImageFormat.indexEntryByteCount + ChunkRecord.rangeOffset)
    }

    /// The last index that meets `condition`; all before it must meet it too.
    private func last(of count: Int, _ condition: (Int) -> Bool) -> Int? {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if condition(middle) { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? nil : low - 1
    }

    /// A descriptor with the lifetime of an object.
    private final class OpenFile: Sendable {
        let descriptor: OwnedDescriptor
        let calls: PendingCalls

        init(_ descriptor: consuming OwnedDescriptor, _ name: String) {
            calls = PendingCalls(name, on: descriptor.raw)
            self.descriptor = descriptor
        }
    }
}
