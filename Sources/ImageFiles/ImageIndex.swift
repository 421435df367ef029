// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel

/// The index of an image file, which repeats every record: the substitute for records with damaged frames.
final class ImageIndex {
    private let reader: PositionedReader
    private let framing: ImageFraming
    private let offset: UInt64
    /// The entries of one frame, the number of frames read, and the number of the first of its entries.
    private var entries: [UInt8] = []
    private var frameCount: UInt64 = 0
    private var firstEntry: UInt64 = 0

    /// - Parameter reader: positioned at the start of the index.
    init(_ reader: PositionedReader, _ framing: ImageFraming) {
        self.reader = reader
        self.framing = framing
        offset = reader.position
    }

    /// A record's payload, and the offset of its frame in the file. Fast for ascending numbers.
    func entry(_ number: UInt64) throws(ImageError) -> (payload: [UInt8], frameOffset: UInt64) {
        if number < firstEntry {
            reader.position = offset
            (entries, frameCount, firstEntry) = ([], 0, 0)
        }
        func damaged() -> ImageError {
            .damaged(name: reader.name, what: "the index", fileOffset: reader.position, disk: nil, partition: nil)
        }
        var count = UInt64(entries.count / ImageFormat.indexEntryByteCount)
        while number - firstEntry >= count {
            let payload = try framing.payload(
                .index, number: frameCount,
                limit: 4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount, from: reader)
            guard Array(payload.prefix(4)) == ImageFormat.indexTag, payload.count > 4 else { throw damaged() }
            firstEntry += count
            frameCount += 1
            entries = Array(payload.dropFirst(4))
            count = UInt64(entries.count / ImageFormat.indexEntryByteCount)
        }
        let start = Int(number - firstEntry) * ImageFormat.indexEntryByteCount
        let entry = Array(entries[start..<start + ImageFormat.indexEntryByteCount])
        do {
            return (
                Array(entry[..<ImageFormat.recordByteCount]),
                try entry.littleEndian(UInt64.self, at: ImageFormat.recordByteCount)
            )
        } catch { throw damaged() }
    }
}
