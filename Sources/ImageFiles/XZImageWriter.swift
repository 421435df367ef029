// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Writes an .img.xz, which any xz decoder turns into the raw disk, and its metadata beside it.
///
/// Neither file gets its name before both are complete and durable. The archive gets its name last: metadata alone is
/// no image.
package final class XZImageWriter: ImageWriter, @unchecked Sendable {
    // @unchecked: only the appending thread touches mutable state.

    /// Blocks of xz, named by SHA-256.
    package let coding: ChunkCoding
    private let path: FilePath
    private let overwrite: Bool
    private let archive: ImageOutput
    private let metadata: ImageOutput
    private let archiveCalls: PendingCalls
    private let metadataCalls: PendingCalls
    private let framing: XZStreamFraming
    private let zeroBlock: [UInt8]
    private let streamHeader: [UInt8]
    private var archiveByteCount: UInt64 = 0
    private var metadataByteCount: UInt64 = 0
    private let header: ImageHeader
    private var dataByteCount: UInt64 = 0
    private var identity = ContentHash.Running()
    /// Entries of the unfinished index frame.
    private var entries: [UInt8] = []
    private var indexOffset: UInt64 = 0
    private var recordCount: UInt64 = 0

    /// Starts an archive.
    /// - Parameters:
    ///   - path: the archive; the metadata has this path with `.reforge` appended.
    ///   - header: its manifest's level is the preset.
    package init(_ path: FilePath, overwrite: Bool, header: ImageHeader) throws {
        var header = header
        header.manifest.codec = "xz"
        guard XZBlock.levels.contains(header.manifest.level) else {
            throw CodecError(
                "xz has levels \(XZBlock.levels.lowerBound) to \(XZBlock.levels.upperBound), not \(header.manifest.level)"
            )
        }
        self.path = path
        self.overwrite = overwrite
        self.header = header
        coding = ChunkCoding(codec: .xz(level: header.manifest.level))
        framing = try XZStreamFraming()
        zeroBlock = try XZBlock.zeros(byteCount: Int(XZImageFormat.zeroBlockContent))
        streamHeader = try XZStreamFraming.header()
        archive = try ImageOutput(path, overwrite: overwrite)
        metadata = try ImageOutput(XZImageFormat.metadataPath(of: path), overwrite: overwrite)
        archiveCalls = PendingCalls(archive.name, on: archive.descriptor)
        metadataCalls = PendingCalls(metadata.name, on: metadata.descriptor)
        let payload = try header.payload()
        identity.update(payload)
        try writeMetadata(ImageFormat.frame(payload))
        indexOffset = metadataByteCount
        try writeArchive(streamHeader)
    }

    /// An archive holds every chunk itself.
    package func holds(_ id: ContentHash) -> Bool { false }

    /// Appends a chunk: one block.
    package func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws {
        guard let stored = unsafe stored else { throw CodecError("xz: a chunk without its block") }
        let sizes = unsafe try XZBlock.sizes(stored)
        // The index promises these sizes to every other decoder.
        guard sizes.stored == stored.count, stored.count == record.storedByteCount,
            sizes.content == record.range.byteCount
        else { throw CodecError("xz: a chunk with another one's block") }
        try note(record)
        try framing.append(sizes)
        dataByteCount += header.usedByteCount(of: record)
        unsafe try writeArchive(stored)
    }

    /// Appends a run: blocks of zeros.
    package func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws {
        var position = range.lowerBound
        while position < range.upperBound {
            let part = position..<min(range.upperBound, position + XZImageFormat.longestRun)
            position = part.upperBound
            let wholeCount = Int(part.byteCount / XZImageFormat.zeroBlockContent)
            let restContent = Int(part.byteCount % XZImageFormat.zeroBlockContent)
            let rest = restContent > 0 ? try XZBlock.zeros(byteCount: restContent) : []
            try note(
                ChunkRecord(
                    kind: kind, region: region, range: part,
                    storedByteCount: wholeCount * zeroBlock.count + rest.count, hash: nil))
            for _ in 0..<wholeCount { try appendZeroBlock(zeroBlock) }
            if !rest.isEmpty { try appendZeroBlock(rest) }
        }
    }

    /// Writes the end of both files, makes them durable, and gives them their names.
    package func finish(_ facts: LateFacts) throws -> ImageSummary {
        let blocksEnd = archiveByteCount
        let tail = try framing.tail()
        try writeArchive(tail)
        try writeIndexFrame()
        let lateFactsOffset = metadataByteCount
        let json = try JSONText.encode(facts)
        try writeMetadata(ImageFormat.frame(ImageFormat.lateFactsTag + json))
        let tie = XZImageTie(
            archiveByteCount: archiveByteCount, indexOffset: blocksEnd,
            framingHash: ContentHash(of: streamHeader + tail))
        try writeMetadata(ImageFormat.frame(tie.payload))
        let footer = ImageFooter(
            indexOffset: indexOffset, recordCount: recordCount, lateFactsOffset: lateFactsOffset,
            fileByteCount: metadataByteCount + UInt64(8 + ImageFormat.footerByteCount), imageID: identity.finish(),
            lateFactsHash: ContentHash(of: json))
        try writeMetadata(ImageFormat.frame(footer.payload))
        try publish()
        return ImageSummary(
            id: footer.imageID, storedByteCount: archiveByteCount + metadataByteCount, newByteCount: dataByteCount)
    }

    private func publish() throws(SystemCallError) {
        // The archive is synced before the metadata gets its name: a full disk must show before anything is visible.
        try Files.sync(archive.descriptor, archive.name)
        try metadata.commit()
        do { try archive.commit() } catch {
            // This metadata must not remain beside an archive made by another process.
            if !overwrite, error.errno == .fileExists || !Files.exists(path) {
                try? Files.remove(XZImageFormat.metadataPath(of: path))
            }
            throw error
        }
    }

    private func appendZeroBlock(_ block: [UInt8]) throws {
        let sizes = unsafe try block.withUnsafeBytes { unsafe try XZBlock.sizes($0) }
        try framing.append(sizes)
        try writeArchive(block)
    }

    private func note(_ record: ChunkRecord) throws(SystemCallError) {
        var entry = record.payload
        entry.appendLittleEndian(archiveByteCount)
        identity.update(entry)
        entries += entry
        recordCount += 1
        if entries.count == ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount { try writeIndexFrame() }
    }

    private func writeIndexFrame() throws(SystemCallError) {
        guard !entries.isEmpty else { return }
        try writeMetadata(ImageFormat.frame(ImageFormat.indexTag + entries))
        entries.removeAll(keepingCapacity: true)
    }

    private func writeMetadata(_ bytes: [UInt8]) throws(SystemCallError) {
        do { _ = try metadataCalls.during(.write) { try metadata.descriptor.writeAll(bytes) } } catch {
            throw SystemCallError("write to", metadata.name, error as? Errno ?? .ioError)
        }
        metadataByteCount += UInt64(bytes.count)
    }

    private func writeArchive(_ bytes: [UInt8]) throws(SystemCallError) {
        let result = unsafe bytes.withUnsafeBytes { buffer in
            Result { () throws(SystemCallError) in unsafe try writeArchive(buffer) }
        }
        try result.get()
    }

    private func writeArchive(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        do { _ = try archiveCalls.during(.write) { unsafe try archive.descriptor.writeAll(bytes) } } catch {
            throw SystemCallError(
                "write \(ByteText.exact(UInt64(bytes.count))) at byte \(archiveByteCount) of", archive.name,
                error as? Errno ?? .ioError)
        }
        archiveByteCount += UInt64(bytes.count)
    }
}
