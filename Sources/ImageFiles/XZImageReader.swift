// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Reads an .img.xz made by Reforge, using the metadata beside it. Opening checks the metadata completely, and both
/// ends of the archive; blocks are checked when read.
package final class XZImageReader: ImageReader {
    /// The archive.
    package let name: String
    /// The description of its disk.
    package let header: ImageHeader
    /// Blocks of xz, named by SHA-256.
    package var coding: ChunkCoding { ChunkCoding(codec: .xz(level: header.manifest.level)) }
    /// The id and the late facts; `nil` until the end is reached.
    package private(set) var ending: ImageEnding?
    /// The id and the late facts from the metadata, before any block is read.
    package var knownEnding: ImageEnding { ImageEnding(id: footer.imageID, lateFacts: lateFacts) }
    /// The offset of the last record's blocks in the archive.
    package var position: UInt64 { last?.offset ?? nextOffset }

    private let archive: FileBytes
    private let metadata: FileBytes
    private let tie: XZImageTie
    /// The error found at the archive's ends.
    private var misfit: ImageError?
    private let footer: ImageFooter
    private let lateFacts: LateFacts

    private var nextOffset: UInt64
    private var metadataPosition: UInt64
    private var entries: [UInt8] = []
    private var entryOffset = 0
    private var diskPosition: UInt64 = 0
    private var regionIndex = 0
    private var last: (record: ChunkRecord, offset: UInt64)?
    /// A full-length block verified to be zeros: equal blocks need no decompression.
    private var knownZeroBlock: [UInt8] = []

    /// The path of an archive's metadata.
    package static func metadataPath(of archive: FilePath) -> FilePath { XZImageFormat.metadataPath(of: archive) }

    /// Opens an archive and its metadata.
    /// - Parameters:
    ///   - path: the archive.
    ///   - salvages: whether to accept an archive that does not match its metadata, because it is cut off or damaged at
    ///     its ends. The error is then thrown at the end.
    package init(_ path: FilePath, salvages: Bool = false) throws(ImageError) {
        name = path.string
        let metadata = try FileBytes(XZImageFormat.metadataPath(of: path))
        self.metadata = metadata
        let name = metadata.name
        func damaged(_ what: String, _ offset: UInt64) -> ImageError {
            .damaged(name: name, what: what, fileOffset: offset, disk: nil, partition: nil)
        }
        let (headerPayload, indexOffset) = try metadata.frame(at: 0, limit: ImageHeader.largestPayload)
        header = try ImageHeader(payload: headerPayload, name: name, codec: "xz")
        let footerFrame = UInt64(8 + ImageFormat.footerByteCount)
        guard metadata.byteCount > footerFrame else { throw .truncated(name: name, at: metadata.byteCount) }
        let footerOffset = metadata.byteCount - footerFrame
        func footerFound(at offset: UInt64) -> ImageFooter? {
            (try? metadata.frame(at: offset, limit: ImageFormat.footerByteCount))
                .flatMap { try? ImageFooter(payload: $0.payload) }
        }
        guard let footer = footerFound(at: footerOffset) else {
            throw try StrayBytes.error(
                name: name, byteCount: metadata.byteCount, frameHead: ImageFraming.plain.footerFrameHead,
                frameByteCount: Int(footerFrame),
                bytes: { offset, count throws(ImageError) in try metadata.bytes(at: offset, count: count) },
                footer: { offset throws(ImageError) in footerFound(at: offset) })
        }
        guard footer.fileByteCount == metadata.byteCount, footer.indexOffset == indexOffset else {
            throw damaged("the footer does not fit the rest", footerOffset)
        }
        self.footer = footer

        // The whole index is read for its checksum.
        var identity = ContentHash.Running()
        identity.update(headerPayload)
        var place = indexOffset
        var count: UInt64 = 0
        while count < footer.recordCount {
            let (entries, next) = try Self.indexFrame(metadata, at: place)
            identity.update(entries)
            count += UInt64(entries.count / ImageFormat.indexEntryByteCount)
            place = next
        }
        guard count == footer.recordCount, identity.finish() == footer.imageID, place == footer.lateFactsOffset else {
            throw damaged("the index", indexOffset)
        }
        let (late, tieOffset) = try metadata.frame(at: place, limit: 16 << 20)
        let json = Array(late.dropFirst(4))
        guard Array(late.prefix(4)) == ImageFormat.lateFactsTag, footer.lateFactsHash == ContentHash(of: json),
            let facts = try? JSONText.decode(LateFacts.self, json)
        else { throw damaged("the late facts", place) }
        lateFacts = facts
        let (tiePayload, tieEnd) = try metadata.frame(at: tieOffset, limit: XZImageFormat.tieByteCount)
        guard tieEnd == footerOffset, let tie = try? XZImageTie(payload: tiePayload) else {
            throw damaged("the archive's length and checksum", tieOffset)
        }
        self.tie = tie

        archive = try FileBytes(path)
        do throws(ImageError) { try Self.check(archive, tie, metadata: name) } catch {
            guard salvages, Salvage.isDamage(error) else { throw error }
            misfit = error
        }
        nextOffset = 12
        metadataPosition = indexOffset
    }

    /// The archive with random access. It must match its metadata.
    package func indexed() throws(ImageError) -> IndexedImage {
        if let misfit { throw misfit }
        var identity = ContentHash.Running()
        identity.update(try metadata.frame(at: 0, limit: ImageHeader.largestPayload).payload)
        return unsafe try IndexedImage(
            name: name, header, coding, knownEnding, identity: identity,
            IndexedImage.Parts(
                recordCount: footer.recordCount,
                entries: { [metadata] _, offset throws(ImageError) in try Self.indexFrame(metadata, at: offset) },
                indexOffset: footer.indexOffset, contentDistance: 0, contentsEnd: tie.indexOffset,
                read: { [archive] buffer, offset throws(ImageError) in unsafe try archive.read(into: buffer, at: offset)
                }))
    }

    /// Checks the archive's length, stream header, index and footer against the metadata.
    private static func check(_ archive: FileBytes, _ tie: XZImageTie, metadata: String) throws(ImageError) {
        guard archive.byteCount >= tie.archiveByteCount else {
            throw .truncated(name: archive.name, at: archive.byteCount)
        }
        let tailByteCount = tie.archiveByteCount - tie.indexOffset
        // 18 bytes a block at most (xz 1.2.0, section 4), and the disk bounds the number of blocks.
        guard tailByteCount <= 1 << 30,
            case let head = try archive.bytes(at: 0, count: 12),
            case let tail = try archive.bytes(at: tie.indexOffset, count: Int(tailByteCount)),
            ContentHash(of: head + tail) == tie.framingHash
        else {
            throw .damaged(
                name: archive.name,
                what: "it does not match \(metadata): either is damaged, or belongs to another capture (without its "
                    + "metadata, an .xz file is read as a raw image)", fileOffset: tie.indexOffset, disk: nil,
                partition: nil)
        }
        guard archive.byteCount == tie.archiveByteCount else {
            throw StrayBytes.following(name: archive.name, byteCount: archive.byteCount, end: tie.archiveByteCount)
        }
    }

    /// The entries of the index frame at an offset, and the offset of the next frame.
    private static func indexFrame(_ metadata: FileBytes, at offset: UInt64) throws(ImageError) -> ([UInt8], UInt64) {
        let (payload, next) = try metadata.frame(
            at: offset, limit: 4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount)
        let entries = Array(payload.dropFirst(4))
        guard Array(payload.prefix(4)) == ImageFormat.indexTag, !entries.isEmpty,
            entries.count % ImageFormat.indexEntryByteCount == 0
        else {
            throw .damaged(name: metadata.name, what: "the index", fileOffset: offset, disk: nil, partition: nil)
        }
        return (entries, next)
    }

    /// The next record, or `nil` at the end. Checks that the blocks of a preceding run are zeros.
    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        if ending != nil { return nil }
        if let (record, offset) = last, record.kind != .data { try checkZeros(record, at: offset) }
        last = nil
        guard diskPosition < header.manifest.geometry.byteCount else {
            // Records and blocks must both be used up.
            guard entryOffset == entries.count, metadataPosition == footer.lateFactsOffset,
                nextOffset == tie.indexOffset
            else { throw damaged("the records do not fill the archive", nil) }
            ending = knownEnding
            if let misfit { throw misfit }
            return nil
        }
        if entryOffset == entries.count {
            guard metadataPosition < footer.lateFactsOffset else {
                throw damaged("the records end before the disk", nil)
            }
            (entries, metadataPosition) = try Self.indexFrame(metadata, at: metadataPosition)
            entryOffset = 0
        }
        let record: ChunkRecord
        do {
            let entry = try entries.bytes(at: entryOffset, count: ImageFormat.indexEntryByteCount)
            entryOffset += ImageFormat.indexEntryByteCount
            record = try ChunkRecord(payload: Array(entry[..<ImageFormat.recordByteCount]))
            guard try entry.littleEndian(UInt64.self, at: ImageFormat.recordByteCount) == nextOffset else {
                throw ParsingError.invalid(what: "a record whose blocks do not follow those before")
            }
            try check(record)
        } catch {
            throw damaged("\(error)", diskPosition..<nextBoundary)
        }
        last = (record, nextOffset)
        nextOffset += UInt64(record.storedByteCount)
        diskPosition = record.range.upperBound
        if diskPosition == header.manifest.regions[regionIndex].range.upperBound { regionIndex += 1 }
        return record
    }

    /// A run's blocks can be skipped: they only repeat its record.
    package func passDamage() -> Bool {
        defer { last = nil }
        return last.map { $0.record.kind != .data } ?? false
    }

    /// Reads the blocks of the last record.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let (record, offset) = last, record.storedByteCount == buffer.count else { return }
        unsafe try archive.read(into: buffer, at: offset)
    }

    /// A closure that reads these blocks at any time.
    package func storedFetch() -> StoredFetch? {
        guard let (_, offset) = last else { return nil }
        return { [archive] buffer throws(ImageError) in unsafe try archive.read(into: buffer, at: offset) }
    }

    private func damaged(_ what: String, _ range: ByteRange?) -> ImageError { damageReporter(what, position, range) }

    /// The end of the chunk that starts at the current position.
    private var nextBoundary: UInt64 {
        guard regionIndex < header.manifest.regions.count else { return diskPosition }
        let end = header.manifest.regions[regionIndex].range.upperBound
        return min(end, diskPosition.addingReportingOverflow(UInt64(header.manifest.chunkByteCount)).partialValue)
    }

    /// A record must be the next one: right place, right region, on the chunk grid, with a plausible length.
    private func check(_ record: ChunkRecord) throws(ParsingError) {
        let manifest = header.manifest
        guard regionIndex < manifest.regions.count, record.region == regionIndex,
            record.range.lowerBound == diskPosition,
            record.range.upperBound <= manifest.regions[regionIndex].range.upperBound
        else { throw .invalid(what: "a record that does not follow the one before") }
        // Blocks are multiples of four bytes (xz 1.2.0, section 3), and all of them lie before the index.
        guard record.storedByteCount > 0, record.storedByteCount % 4 == 0,
            UInt64(record.storedByteCount) <= tie.indexOffset - nextOffset
        else { throw .invalid(what: "the length of a record's blocks") }
        let region = manifest.regions[regionIndex].range
        switch record.kind {
        case .data:
            guard record.range.upperBound == nextBoundary,
                record.storedByteCount <= ChunkCoding.bound(Int(record.range.byteCount))
            else { throw .invalid(what: "a chunk's length") }
        case .zero, .unused:
            guard record.range.byteCount <= XZImageFormat.longestRun,
                record.range.upperBound == region.upperBound
                    || (record.range.upperBound - region.lowerBound) % UInt64(manifest.chunkByteCount) == 0
            else { throw .invalid(what: "a run's length") }
            // A run marked unused must be unused by the map, which decides what may be dropped.
            let relative = record.range.lowerBound - region.lowerBound..<record.range.upperBound - region.lowerBound
            guard record.kind == .zero || header.maps[regionIndex].ranges(in: relative).isEmpty else {
                throw .invalid(what: "a run marked unused that the map marks as used")
            }
        }
    }

    /// The blocks of a run must be its zeros, for users who decompress the archive without Reforge.
    private func checkZeros(_ record: ChunkRecord, at offset: UInt64) throws(ImageError) {
        var place = offset
        let end = offset + UInt64(record.storedByteCount)
        var rest = record.range.byteCount
        var held: [UInt8] = []
        var start = 0
        func fail(_ what: String) -> ImageError { damageReporter("a run's blocks: \(what)", place, record.range) }
        while rest > 0 {
            if held.count - start < XZImageFormat.longestZeroBlock, UInt64(held.count - start) < end - place {
                let count = min(end - place, UInt64(4 * XZImageFormat.longestZeroBlock))
                held = try archive.bytes(at: place, count: Int(count))
                start = 0
            }
            let content = min(rest, XZImageFormat.zeroBlockContent)
            let known = content == XZImageFormat.zeroBlockContent ? knownZeroBlock : []
            let result = unsafe held.withUnsafeBytes { held in
                Result { () throws(CodecError) -> Int? in
                    let bytes = unsafe UnsafeRawBufferPointer(rebasing: held[start...])
                    if !known.isEmpty, bytes.count >= known.count, unsafe bytes[..<known.count].elementsEqual(known) {
                        return known.count
                    }
                    let sizes = unsafe try XZBlock.sizes(bytes)
                    guard sizes.content == content, sizes.stored <= bytes.count,
                        sizes.stored <= XZImageFormat.longestZeroBlock,
                        case let block = unsafe UnsafeRawBufferPointer(rebasing: bytes[..<sizes.stored]),
                        unsafe try XZBlock.isZeros(block, byteCount: content)
                    else { return nil }
                    return sizes.stored
                }
            }
            let count: Int?
            do { count = try result.get() } catch { throw fail("\(error)") }
            guard let count else { throw fail("not zeros of the right number") }
            if content == XZImageFormat.zeroBlockContent, known.isEmpty {
                knownZeroBlock = Array(held[start..<start + count])
            }
            start += count
            place += UInt64(count)
            rest -= content
        }
        guard place == end else { throw fail("something follows them") }
    }
}
