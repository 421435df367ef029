// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The end of an image: index, late facts and footer, which confirm each other.
struct ImageEnd {
    let footer: ImageFooter
    let lateFacts: LateFacts

    /// Reads the end of an image.
    /// - Parameters:
    ///   - source: positioned at the start of the index.
    ///   - headerIdentity: the running hash of the image's id, after the header.
    init(
        from source: some FrameSource, _ framing: ImageFraming, recordCount: UInt64,
        headerIdentity: ContentHash.Running
    ) throws(ImageError) {
        let name = source.name
        func damaged(_ what: String, _ offset: UInt64) -> ImageError {
            .damaged(name: name, what: what, fileOffset: offset, disk: nil, partition: nil)
        }
        let indexOffset = source.position
        var identity = headerIdentity
        var count: UInt64 = 0
        var frameCount: UInt64 = 0
        while count < recordCount {
            let offset = source.position
            let payload = try framing.payload(
                .index, number: frameCount,
                limit: 4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount, from: source)
            frameCount += 1
            let entries = Array(payload.dropFirst(4))
            guard Array(payload.prefix(4)) == ImageFormat.indexTag, !entries.isEmpty,
                entries.count % ImageFormat.indexEntryByteCount == 0
            else { throw damaged("the index", offset) }
            identity.update(entries)
            count += UInt64(entries.count / ImageFormat.indexEntryByteCount)
        }
        let lateFactsOffset = source.position
        let late = try framing.payload(.lateFacts, limit: 16 << 20, from: source)
        let json = Array(late.dropFirst(4))
        guard Array(late.prefix(4)) == ImageFormat.lateFactsTag else {
            throw damaged("the late facts", lateFactsOffset)
        }
        let footerOffset = source.position
        let payload = try framing.payload(.footer, limit: ImageFormat.footerByteCount, from: source)
        do { footer = try ImageFooter(payload: payload) } catch { throw damaged("\(error)", footerOffset) }
        guard footer.imageID == identity.finish(), footer.recordCount == recordCount, count == recordCount,
            footer.indexOffset == indexOffset, footer.lateFactsOffset == lateFactsOffset,
            footer.fileByteCount == source.position, footer.lateFactsHash == ContentHash(of: json)
        else { throw damaged("the footer does not confirm the index", footerOffset) }
        do { lateFacts = try JSONText.decode(LateFacts.self, json) } catch {
            throw damaged("the late facts: \(error)", lateFactsOffset)
        }
    }
}
