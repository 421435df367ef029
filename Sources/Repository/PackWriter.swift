// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// Writes one pack sequentially. Not thread-safe.
final class PackWriter: @unchecked Sendable {
    // @unchecked: the thread that finishes it hands it over and keeps no reference.
    let name: StoreName
    /// The appended contents, in the order of the pack.
    private(set) var entries: [IndexEntry] = []
    private let secrets: RepositorySecrets
    private let output: StoreOutput

    /// Starts a pack.
    init(_ store: StoreAccess, _ secrets: RepositorySecrets) throws(ImageError) {
        name = .random()
        self.secrets = secrets
        output = try store.begin(.pack(name))
        try output.write(ImageFormat.frame(secrets.head(RepositoryFormat.packHeaderTag, name: name)))
    }

    /// The length so far, in bytes.
    var byteCount: UInt64 { output.byteCount }

    /// Whether the pack has reached its target length or number of contents.
    var isFull: Bool {
        byteCount >= UInt64(RepositoryFormat.packTarget) || entries.count >= RepositoryFormat.largestPackBlobCount
    }

    /// Appends a content in its stored form.
    func append(
        _ key: BlobKey, contentByteCount: Int, stored: UnsafeRawBufferPointer
    ) throws(ImageError) -> BlobLocation {
        // A content starts at an offset below the target length, so its end fits into 32 bits.
        let offset = byteCount + UInt64(PackFormat.recordFrameByteCount) + (secrets.isSealed ? 8 : 0)
        let location = BlobLocation(
            pack: name, offset: UInt32(truncatingIfNeeded: offset),
            storedByteCount: UInt32(truncatingIfNeeded: stored.count),
            contentByteCount: UInt32(truncatingIfNeeded: contentByteCount))
        let entry = IndexEntry(key: key, location: location)
        var head: [UInt8]
        do { head = try PackFormat.recordFrame(entry, secrets) } catch { throw .about(output.name, error) }
        if secrets.isSealed {
            // Sealed bytes are no zstd frame: they are wrapped in a skippable one.
            head.appendLittleEndian(ImageFormat.skippableMagic)
            head.appendLittleEndian(UInt32(truncatingIfNeeded: stored.count))
        }
        try output.write(head)
        unsafe try output.write(stored)
        entries.append(entry)
        return location
    }

    /// Writes the table and the end. `commit` then publishes the pack.
    func finish() throws(ImageError) {
        var table: [UInt8] = []
        table.reserveCapacity(entries.count * RepositoryFormat.entryByteCount)
        for entry in entries { table += PackFormat.tableEntry(entry) }
        let tableOffset = byteCount
        let payload: [UInt8]
        do {
            payload =
                RepositoryFormat.packTableTag
                + (try secrets.protection.protect(table, context: secrets.context("pack table", name.bytes)))
        } catch { throw .about(output.name, error) }
        try output.write(ImageFormat.frame(payload))
        var end = RepositoryFormat.packEndTag
        end.appendLittleEndian(tableOffset)
        end.appendLittleEndian(UInt64(entries.count))
        end.appendLittleEndian(byteCount + UInt64(PackFormat.endFrameByteCount))
        end += name.bytes
        end.appendLittleEndian(CRC32.iso.checksum(end))
        try output.write(ImageFormat.frame(end))
    }

    /// Makes the finished pack durable and gives it its name.
    func commit() throws(ImageError) { try output.commit() }

    /// Removes the unfinished file.
    func discard() { output.discard() }
}

/// The parts of a pack.
enum PackFormat {
    /// A record's frame: head of the frame, tag, 48 bytes of entry, protection.
    static let recordFrameByteCount =
        8 + 4 + RepositoryFormat.entryByteCount + RepositoryFormat.protectionByteCount
    static let headFrameByteCount = 8 + RepositorySecrets.headByteCount
    /// The end: tag, table offset, count, length of the file, name, checksum.
    static let endPayloadByteCount = 8 + 8 + 8 + 8 + 16 + 4
    static let endFrameByteCount = 8 + endPayloadByteCount

    /// An entry of the table, repeated in the record before each content: id, kind and three zeros, offset, stored
    /// length, length of the content.
    static func tableEntry(_ entry: IndexEntry) -> [UInt8] {
        var bytes = entry.key.idBytes
        bytes += [entry.key.kind.rawValue, 0, 0, 0]
        bytes.appendLittleEndian(entry.location.offset)
        bytes.appendLittleEndian(entry.location.storedByteCount)
        bytes.appendLittleEndian(entry.location.contentByteCount)
        return bytes
    }

    /// Decodes a table entry.
    static func tableEntry(_ bytes: [UInt8], at start: Int, pack: StoreName) throws(ParsingError) -> IndexEntry {
        guard let id = ContentHash(bytes: try bytes.bytes(at: start, count: 32)),
            let kind = BlobKind(rawValue: try bytes.littleEndian(at: start + 32))
        else { throw .invalid(what: "the kind of a content") }
        return IndexEntry(
            key: BlobKey(id, kind),
            location: BlobLocation(
                pack: pack, offset: try bytes.littleEndian(at: start + 36),
                storedByteCount: try bytes.littleEndian(at: start + 40),
                contentByteCount: try bytes.littleEndian(at: start + 44)))
    }

    static func recordFrame(_ entry: IndexEntry, _ secrets: RepositorySecrets) throws(CodecError) -> [UInt8] {
        let context = secrets.context(
            "pack record", entry.location.pack.bytes, part: UInt64(entry.location.offset))
        return ImageFormat.frame(
            RepositoryFormat.packRecordTag
                + (try secrets.protection.protect(tableEntry(entry), context: context)))
    }
}
