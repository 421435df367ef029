// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// Writes one index file from entries sorted by key. Holds only the fences, the filter and the pack table.
final class IndexWriter {
    let name: StoreName
    private let secrets: RepositorySecrets
    private let output: StoreOutput
    private var page: [UInt8] = []
    private var pageCount: UInt64 = 0
    private(set) var entryCount: UInt64 = 0
    private var last: IndexEntry?
    private var packNumbers: [StoreName: UInt32] = [:]
    private var packTable: [UInt8] = []
    private var fences: [UInt8] = []
    private var filter: IndexFilter

    /// Starts an index.
    /// - Parameter expectedEntryCount: upper bound on the entries; more of them degrade the filter.
    init(
        _ store: StoreAccess, _ secrets: RepositorySecrets, expectedEntryCount: UInt64
    ) throws(ImageError) {
        name = .random()
        self.secrets = secrets
        filter = IndexFilter(expectedEntryCount: expectedEntryCount)
        output = try store.begin(.index(name))
        var head = secrets.head(RepositoryFormat.indexHeaderTag, name: name)
        head += [UInt8](repeating: 0, count: RepositoryFormat.pageByteCount - 4 - head.count)
        head.appendLittleEndian(CRC32.iso.checksum(head))
        try output.write(head)
    }

    /// Adds the next entry. An entry equal to the previous one is dropped; several places of one content are kept.
    func add(_ entry: IndexEntry) throws(ImageError) {
        if let last {
            guard last.key <= entry.key else {
                throw .damagedFile(output.name, "entries for an index that are not sorted")
            }
            if last == entry { return }
        }
        last = entry
        let number: UInt32
        if let known = packNumbers[entry.location.pack] {
            number = known
        } else {
            number = UInt32(packNumbers.count)
            packNumbers[entry.location.pack] = number
            packTable += entry.location.pack.bytes
        }
        if page.isEmpty {
            page.reserveCapacity(RepositoryFormat.pageByteCount)
            page += IndexPage.emptyHead
            fences.appendLittleEndian(entry.key.words.0)
        }
        page += entry.key.idBytes
        page.appendLittleEndian(number)
        page.appendLittleEndian(entry.location.offset)
        page.appendLittleEndian(entry.location.storedByteCount)
        page.appendLittleEndian(entry.location.contentByteCount & 0x0FFF_FFFF | UInt32(entry.key.kind.rawValue) << 28)
        filter.insert(entry.key)
        entryCount += 1
        if page.count == IndexPage.headByteCount + RepositoryFormat.entriesPerPage * RepositoryFormat.entryByteCount {
            try flushPage()
        }
    }

    private func flushPage() throws(ImageError) {
        guard !page.isEmpty else { return }
        let count = (page.count - IndexPage.headByteCount) / RepositoryFormat.entryByteCount
        page.setLittleEndian(UInt16(count), at: 0)
        page.setLittleEndian(UInt32(truncatingIfNeeded: pageCount), at: 4)
        page += [UInt8](
            repeating: 0,
            count: RepositoryFormat.pageByteCount - RepositoryFormat.protectionByteCount - page.count)
        try write(page, "index page", part: pageCount)
        pageCount += 1
        page.removeAll(keepingCapacity: true)
    }

    private func write(_ bytes: [UInt8], _ what: String, part: UInt64) throws(ImageError) {
        do {
            try output.write(
                try secrets.protection.protect(bytes, context: secrets.context(what, name.bytes, part: part)))
        } catch { throw .about(output.name, error) }
    }

    private func writeBlocks(_ bytes: [UInt8], _ what: String) throws(ImageError) {
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, start + RepositoryFormat.blockByteCount)
            try write(Array(bytes[start..<end]), what, part: UInt64(start / RepositoryFormat.blockByteCount))
            start = end
        }
    }

    /// Writes the tables and the end, and publishes the index.
    /// - Returns: the length of the file in bytes.
    func finish() throws(ImageError) -> UInt64 {
        try flushPage()
        try writeBlocks(packTable, "index packs")
        try writeBlocks(fences, "index fences")
        try writeBlocks(filter.bytes, "index filter")
        var end = IndexEnd(
            entryCount: entryCount, packCount: UInt64(packNumbers.count), filterByteCount: UInt64(filter.bytes.count),
            filterHashCount: UInt32(filter.hashCount), fileByteCount: 0)
        end.fileByteCount = output.byteCount + UInt64(IndexEnd.storedByteCount)
        try write(end.bytes, "index end", part: 0)
        try output.commit()
        return output.byteCount
    }
}
