// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// A page of an index: number of entries, page number, entries.
enum IndexPage {
    static let headByteCount = 8
    /// Two bytes of count, two zeros, four bytes of page number.
    static let emptyHead = [UInt8](repeating: 0, count: headByteCount)
}

/// The end of an index file: the lengths of everything before it.
struct IndexEnd {
    var entryCount: UInt64
    var packCount: UInt64
    var filterByteCount: UInt64
    var filterHashCount: UInt32
    var fileByteCount: UInt64

    static let byteCount = 8 + 8 + 8 + 8 + 4 + 4 + 8
    static let storedByteCount = byteCount + RepositoryFormat.protectionByteCount

    var bytes: [UInt8] {
        var bytes = RepositoryFormat.indexEndTag
        bytes.appendLittleEndian(entryCount)
        bytes.appendLittleEndian(packCount)
        bytes.appendLittleEndian(filterByteCount)
        bytes.appendLittleEndian(filterHashCount)
        bytes.appendLittleEndian(UInt32(0))
        bytes.appendLittleEndian(fileByteCount)
        return bytes
    }

    init(
        entryCount: UInt64, packCount: UInt64, filterByteCount: UInt64, filterHashCount: UInt32, fileByteCount: UInt64
    ) {
        self.entryCount = entryCount
        self.packCount = packCount
        self.filterByteCount = filterByteCount
        self.filterHashCount = filterHashCount
        self.fileByteCount = fileByteCount
    }

    init(_ bytes: [UInt8]) throws(ParsingError) {
        guard bytes.count == Self.byteCount, Array(bytes[..<8]) == RepositoryFormat.indexEndTag else {
            throw .invalid(what: "the mark of its end")
        }
        entryCount = try bytes.littleEndian(at: 8)
        packCount = try bytes.littleEndian(at: 16)
        filterByteCount = try bytes.littleEndian(at: 24)
        filterHashCount = try bytes.littleEndian(at: 32)
        fileByteCount = try bytes.littleEndian(at: 40)
    }

    var pageCount: UInt64 {
        let perPage = UInt64(RepositoryFormat.entriesPerPage)
        return entryCount / perPage + (entryCount % perPage > 0 ? 1 : 0)
    }

    /// The stored length of a table of `byteCount` bytes.
    static func storedTable(_ byteCount: UInt64) -> UInt64 {
        let block = UInt64(RepositoryFormat.blockByteCount)
        return byteCount + (byteCount / block + (byteCount % block > 0 ? 1 : 0))
            * UInt64(RepositoryFormat.protectionByteCount)
    }

    /// The offsets of the three tables and of their end. Throws unless they add up to the length of the file, so that
    /// no number here exceeds the size of the file that holds it.
    func tableOffsets(_ actualByteCount: UInt64) throws(ParsingError) -> [UInt64] {
        // Each counted element takes at least one byte of the file, so no sum below overflows.
        guard fileByteCount == actualByteCount, entryCount <= actualByteCount, packCount <= actualByteCount,
            filterByteCount <= actualByteCount, filterByteCount >= 8, filterByteCount % 8 == 0,
            actualByteCount < 1 << 50,
            filterHashCount >= 1, filterHashCount <= 64, packCount <= UInt64(UInt32.max), packCount <= entryCount
        else { throw .invalid(what: "the numbers in its end") }
        var offsets = [(pageCount + 1) * UInt64(RepositoryFormat.pageByteCount)]
        for length in [packCount * UInt64(StoreName.byteCount), pageCount * 8, filterByteCount] {
            offsets.append(offsets[offsets.count - 1] + Self.storedTable(length))
        }
        guard offsets[3] + UInt64(Self.storedByteCount) == actualByteCount else {
            throw .invalid(what: "the lengths in its end")
        }
        return offsets
    }
}

/// An open index file: its filter, fences and pack table are in memory; pages are read on demand.
final class IndexFile: Sendable {
    let name: StoreName
    let entryCount: UInt64
    /// The packs of its entries; an entry refers to a pack by its index in this array.
    let packs: [StoreName]
    private let pageCount: UInt64
    /// The first eight bytes of each page's first id.
    private let fences: [UInt64]
    private let filter: IndexFilter
    private let file: StoreFile
    private let secrets: RepositorySecrets

    /// Opens an index file and reads everything except the pages.
    init(_ name: StoreName, _ store: StoreAccess, _ secrets: RepositorySecrets) throws(ImageError) {
        self.name = name
        self.secrets = secrets
        let file = try store.open(.index(name))
        self.file = file
        let pageByteCount = RepositoryFormat.pageByteCount
        let head = try file.bytes(at: 0, count: pageByteCount)
        try secrets.check(
            Array(head[..<RepositorySecrets.headByteCount]), RepositoryFormat.indexHeaderTag, name: name,
            path: file.name)
        do {
            guard
                try head.littleEndian(UInt32.self, at: pageByteCount - 4) == CRC32.iso.checksum(Array(head.dropLast(4)))
            else { throw ParsingError.invalid(what: "the checksum of its first page") }
            guard file.byteCount >= UInt64(pageByteCount + IndexEnd.storedByteCount) else {
                throw ImageError.truncated(name: file.name, at: file.byteCount)
            }
            let end: IndexEnd
            do {
                end = try IndexEnd(
                    try secrets.protection.open(
                        try file.bytes(
                            at: file.byteCount - UInt64(IndexEnd.storedByteCount), count: IndexEnd.storedByteCount),
                        context: secrets.context("index end", name.bytes)))
            } catch { throw ParsingError.invalid(what: "its end (it may be cut off)") }
            let offsets = try end.tableOffsets(file.byteCount)
            entryCount = end.entryCount
            pageCount = end.pageCount
            func table(_ index: Int, _ what: String, _ byteCount: UInt64) throws -> [UInt8] {
                var bytes: [UInt8] = []
                // Bounded: the length is not verified until the bytes and their checksums are read.
                bytes.reserveCapacity(min(Int(byteCount), 64 << 20))
                var position = offsets[index]
                var part: UInt64 = 0
                while bytes.count < Int(byteCount) {
                    let length = min(RepositoryFormat.blockByteCount, Int(byteCount) - bytes.count)
                    let stored = length + RepositoryFormat.protectionByteCount
                    bytes += try secrets.protection.open(
                        try file.bytes(at: position, count: stored),
                        context: secrets.context(what, name.bytes, part: part))
                    position += UInt64(stored)
                    part += 1
                }
                return bytes
            }
            let packBytes = try table(0, "index packs", end.packCount * UInt64(StoreName.byteCount))
            packs = try stride(from: 0, to: packBytes.count, by: StoreName.byteCount).map {
                try StoreName(packBytes, at: $0)
            }
            let fenceBytes = try table(1, "index fences", end.pageCount * 8)
            fences = try stride(from: 0, to: fenceBytes.count, by: 8).map { try fenceBytes.littleEndian(at: $0) }
            filter = IndexFilter(
                bytes: try table(2, "index filter", end.filterByteCount), hashCount: Int(end.filterHashCount))
        } catch { throw .about(file.name, error) }
    }

    /// The name in messages.
    var path: String { file.name }
    var byteCount: UInt64 { file.byteCount }

    /// An entry with its position in the file.
    struct Hit: Sendable {
        var entry: IndexEntry
        /// The entry's number among all entries of the file.
        var ordinal: UInt64
        /// The index of its pack in `packs`.
        var packNumber: Int
    }

    /// All entries of a key.
    func hits(_ key: BlobKey) throws(ImageError) -> [Hit] {
        guard !fences.isEmpty, filter.mayContain(key) else { return [] }
        // The first page that can hold the key is the last one with a smaller fence: keys rarely share their first
        // bytes.
        var low = 0
        var high = fences.count
        while low < high {
            let middle = (low + high) / 2
            if fences[middle] < key.words.0 { low = middle + 1 } else { high = middle }
        }
        var number = max(0, low - 1)
        var result: [Hit] = []
        while number < fences.count, fences[number] <= key.words.0 {
            let page = try readPage(UInt64(number))
            for index in 0..<page.count where page.key(index) == key {
                result.append(try hit(page, index))
            }
            number += 1
        }
        return result
    }

    /// A page, read and checked.
    struct Page {
        let bytes: [UInt8]
        let number: UInt64
        let count: Int

        func key(_ index: Int) -> BlobKey? {
            let start = IndexPage.headByteCount + index * RepositoryFormat.entryByteCount
            // Safety: `count` entries lie inside a page, which has its full length; every bit pattern is an integer.
            guard index >= 0, index < count else { return nil }
            return unsafe bytes.withUnsafeBytes { buffer in
                func word(_ offset: Int) -> UInt64 {
                    unsafe UInt64(bigEndian: buffer.loadUnaligned(fromByteOffset: start + offset, as: UInt64.self))
                }
                let packed = unsafe UInt32(
                    littleEndian: buffer.loadUnaligned(fromByteOffset: start + 44, as: UInt32.self))
                guard let kind = BlobKind(rawValue: UInt8(packed >> 28)) else { return nil }
                return BlobKey(words: (word(0), word(8), word(16), word(24)), kind)
            }
        }
    }

    func hit(_ page: Page, _ index: Int) throws(ImageError) -> Hit {
        let start = IndexPage.headByteCount + index * RepositoryFormat.entryByteCount
        do {
            guard let key = page.key(index) else { throw ParsingError.invalid(what: "the kind of an entry") }
            let packNumber = Int(try page.bytes.littleEndian(UInt32.self, at: start + 32))
            guard packNumber < packs.count else { throw ParsingError.invalid(what: "the pack of an entry") }
            return Hit(
                entry: IndexEntry(
                    key: key,
                    location: BlobLocation(
                        pack: packs[packNumber], offset: try page.bytes.littleEndian(at: start + 36),
                        storedByteCount: try page.bytes.littleEndian(at: start + 40),
                        contentByteCount: try page.bytes.littleEndian(UInt32.self, at: start + 44) & 0x0FFF_FFFF)),
                ordinal: page.number * UInt64(RepositoryFormat.entriesPerPage) + UInt64(index),
                packNumber: packNumber)
        } catch { throw .about(file.name, error, at: (page.number + 1) * UInt64(RepositoryFormat.pageByteCount)) }
    }

    func readPage(_ number: UInt64) throws(ImageError) -> Page {
        let offset = (number + 1) * UInt64(RepositoryFormat.pageByteCount)
        let stored = try file.bytes(at: offset, count: RepositoryFormat.pageByteCount)
        do {
            let bytes = try secrets.protection.open(
                stored, context: secrets.context("index page", name.bytes, part: number))
            let perPage = UInt64(RepositoryFormat.entriesPerPage)
            let count = Int(min(perPage, entryCount - number * perPage))
            guard Int(try bytes.littleEndian(UInt16.self, at: 0)) == count,
                try bytes.littleEndian(UInt32.self, at: 4) == UInt32(truncatingIfNeeded: number)
            else { throw ParsingError.invalid(what: "the head of a page") }
            return Page(bytes: bytes, number: number, count: count)
        } catch { throw .about(file.name, error, at: offset) }
    }

    /// A position in a walk over all entries.
    struct Cursor {
        let file: IndexFile
        private var page: Page?
        private var nextPage: UInt64 = 0
        private var index = 0
        private var last: BlobKey?

        init(_ file: IndexFile) { self.file = file }

        /// The next entry in order of keys; `nil` at the end.
        mutating func next() throws(ImageError) -> Hit? {
            while true {
                if let page, index < page.count {
                    let hit = try file.hit(page, index)
                    if let last, hit.entry.key < last {
                        throw .damagedFile(file.path, "its entries are not sorted")
                    }
                    last = hit.entry.key
                    index += 1
                    return hit
                }
                guard nextPage < file.pageCount else { return nil }
                page = try file.readPage(nextPage)
                nextPage += 1
                index = 0
            }
        }
    }
}
