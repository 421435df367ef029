// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Compares the index with a dictionary.
@Suite struct RepositoryIndexTests {
    /// An empty repository.
    static func repository(_ scratch: ScratchFolder, isEncrypted: Bool, name: String = "r") throws -> Repository {
        try Repository.create(
            in: LocalStore(scratch.path.appending(name)), chunkByteCount: 1 << 20, keys: isEncrypted ? .random() : nil)
    }

    static func key(_ random: inout SeededGenerator, prefix: UInt64?) -> BlobKey {
        BlobKey(
            words: (
                prefix ?? random.next(), Bool.random(using: &random) ? random.next() : 7,
                Bool.random(using: &random) ? random.next() : 7, random.next()
            ), BlobKind.allCases.randomElement(using: &random) ?? .data)
    }

    @Test(arguments: [false, true]) func findsWhatADictionaryFinds(isEncrypted: Bool) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        for (round, size) in [0, 1, 83, 84, 85, 168, 1000, 3000].enumerated() {
            let repository = try Self.repository(scratch, isEncrypted: isEncrypted, name: "r\(round)")
            let packs = (0..<20).map { _ in StoreName(high: random.next(), low: random.next()) }
            // A few prefixes shared by more ids than fit into a page.
            let prefixes: [UInt64] = [0, .max, random.next(), random.next()]
            var oracle: [BlobKey: Set<BlobLocation>] = [:]
            for _ in 0..<3 {
                var entries: [IndexEntry] = []
                for _ in 0..<size {
                    let isRepeated = Int.random(in: 0..<8, using: &random) == 0
                    let prefix =
                        Int.random(in: 0..<3, using: &random) == 0 ? prefixes.randomElement(using: &random) : nil
                    let key =
                        isRepeated
                        ? oracle.keys.first ?? Self.key(&random, prefix: nil) : Self.key(&random, prefix: prefix)
                    let location = BlobLocation(
                        pack: packs[Int.random(in: 0..<20, using: &random)],
                        offset: UInt32.random(in: 0...UInt32.max, using: &random),
                        storedByteCount: UInt32.random(in: 0...UInt32.max, using: &random),
                        contentByteCount: UInt32.random(in: 0..<1 << 28, using: &random))
                    entries.append(IndexEntry(key: key, location: location))
                    oracle[key, default: []].insert(location)
                }
                let writer = try IndexWriter(
                    repository.store, repository.secrets, expectedEntryCount: UInt64(size))
                for entry in entries.sorted(by: { $0.key < $1.key }) { try writer.add(entry) }
                let byteCount = try writer.finish()
                #expect(UInt64(try Stat(repository.layout.index(writer.name)).size) == byteCount)
            }
            func check(_ indexes: IndexSet) throws {
                #expect(indexes.damaged.isEmpty)
                for (key, places) in oracle {
                    let hits = try indexes.hits(key)
                    #expect(Set(hits.map(\.hit.entry.location)) == places, "seed \(seed), size \(size)")
                    for hit in hits {
                        #expect(hit.hit.entry.key == key)
                        #expect(indexes.files[hit.file].packs[hit.hit.packNumber] == hit.hit.entry.location.pack)
                    }
                }
                for _ in 0..<200 {
                    let key = Self.key(&random, prefix: prefixes.randomElement(using: &random))
                    #expect(try indexes.hits(key).isEmpty == (oracle[key] == nil), "seed \(seed)")
                }
                var cursor = try indexes.mergedCursor()
                var walked: [IndexEntry] = []
                while let hit = try cursor.next() { walked.append(hit.hit.entry) }
                #expect(zip(walked, walked.dropFirst()).allSatisfy { $0.key <= $1.key }, "seed \(seed)")
                #expect(
                    Set(walked)
                        == Set(oracle.flatMap { key, places in places.map { IndexEntry(key: key, location: $0) } }),
                    "seed \(seed)")
                #expect(indexes.entryCount == UInt64(walked.count))
            }
            let indexes = try repository.indexSet()
            try check(indexes)
            _ = try repository.merge(indexes.files)
            let merged = try repository.indexSet()
            #expect(merged.files.count == 1)
            try check(merged)
            // Opened files remain readable.
            try check(indexes)
        }
    }

    @Test func anIndexOfAnotherRepositoryIsRefused() throws {
        let scratch = try ScratchFolder()
        var random = SeededGenerator(seed: 1)
        for isEncrypted in [false, true] {
            let own = try Self.repository(scratch, isEncrypted: isEncrypted, name: "own\(isEncrypted)")
            let foreign = try Self.repository(scratch, isEncrypted: isEncrypted, name: "foreign\(isEncrypted)")
            let writer = try IndexWriter(foreign.store, foreign.secrets, expectedEntryCount: 1)
            try writer.add(
                IndexEntry(
                    key: Self.key(&random, prefix: nil),
                    location: BlobLocation(pack: .random(), offset: 1, storedByteCount: 2, contentByteCount: 3)))
            _ = try writer.finish()
            try Files.rename(foreign.layout.index(writer.name), to: own.layout.index(writer.name))
            let damaged = try own.indexSet().damaged
            #expect(damaged.count == 1)
            #expect("\(try #require(damaged.first).error)".contains("another repository"))
            // An index of this repository under another name.
            let second = try IndexWriter(own.store, own.secrets, expectedEntryCount: 1)
            _ = try second.finish()
            let other = StoreName.random()
            try Files.rename(own.layout.index(second.name), to: own.layout.index(other))
            let renamed = try own.indexSet().damaged.first { $0.name == other }
            #expect("\(try #require(renamed).error)".contains("renamed"))
        }
    }

    @Test func everyChangedBitOfAnIndexIsReported() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        for isEncrypted in [false, true] {
            let repository = try Self.repository(scratch, isEncrypted: isEncrypted, name: "r\(isEncrypted)")
            let writer = try IndexWriter(repository.store, repository.secrets, expectedEntryCount: 200)
            var keys: [BlobKey] = []
            for _ in 0..<200 { keys.append(Self.key(&random, prefix: nil)) }
            keys.sort()
            for key in keys {
                try writer.add(
                    IndexEntry(
                        key: key,
                        location: BlobLocation(pack: .random(), offset: 1, storedByteCount: 2, contentByteCount: 3)))
            }
            _ = try writer.finish()
            let path = repository.layout.index(writer.name)
            let bytes = try Files.read(path)
            func damage(_ changed: [UInt8]) throws -> ImageError? {
                try overwrite(path, changed)
                do {
                    let file = try IndexFile(writer.name, repository.store, repository.secrets)
                    var cursor = IndexFile.Cursor(file)
                    while try cursor.next() != nil {}
                    return nil
                } catch { return error }
            }
            #expect(try damage(bytes) == nil)
            // The head and the end bit by bit, the rest at random.
            var bits = Array(0..<52 * 8) + Array((bytes.count - 76) * 8..<bytes.count * 8)
            for _ in 0..<1500 { bits.append(Int.random(in: 0..<bytes.count * 8, using: &random)) }
            for bit in bits {
                var changed = bytes
                changed[bit / 8] ^= 1 << UInt8(bit % 8)
                #expect(try damage(changed) != nil, "seed \(seed), bit \(bit) of \(bytes.count * 8)")
            }
            for _ in 0..<60 {
                let length = Int.random(in: 0..<bytes.count, using: &random)
                #expect(try damage(Array(bytes[..<length])) != nil, "seed \(seed), cut to \(length)")
            }
            #expect(try damage(bytes + [0]) != nil)
        }
    }

    /// Impossible numbers with valid checksums: errors, never traps or gigabytes.
    @Test func hostileEnds() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch, isEncrypted: false)
        let writer = try IndexWriter(repository.store, repository.secrets, expectedEntryCount: 10)
        _ = try writer.finish()
        let path = repository.layout.index(writer.name)
        let bytes = try Files.read(path)
        for _ in 0..<3000 {
            func number() -> UInt64 {
                switch Int.random(in: 0..<4, using: &random) {
                case 0: UInt64.random(in: 0...20, using: &random)
                case 1: UInt64(bytes.count) + UInt64.random(in: 0...20, using: &random) - 10
                case 2: .max - UInt64.random(in: 0...20, using: &random)
                default: UInt64.random(in: .min ... .max, using: &random)
                }
            }
            var end = IndexEnd(
                entryCount: number(), packCount: number(), filterByteCount: number(),
                filterHashCount: UInt32(truncatingIfNeeded: number()), fileByteCount: number())
            if Bool.random(using: &random) { end.fileByteCount = UInt64(bytes.count) }
            let stored = try repository.secrets.protection.protect(
                end.bytes, context: repository.secrets.context("index end", writer.name.bytes))
            try overwrite(path, Array(bytes.dropLast(stored.count)) + stored)
            guard let file = try? IndexFile(writer.name, repository.store, repository.secrets) else { continue }
            #expect(file.entryCount == 0, "seed \(seed)")
        }
    }

    /// The memory use of a synthetic index of a repository with 16 million chunks (half a million by default).
    @Test func aLargeIndexStaysOnTheDisk() throws {
        let count: UInt64 = Sample.isFull ? 16_000_000 : 500_000
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch, isEncrypted: false)
        let before = ProcessMemory.residentByteCount()
        let began = SystemFacts.monotonicSeconds()
        let writer = try IndexWriter(repository.store, repository.secrets, expectedEntryCount: count)
        // Generated in order: the first word counts up, the others are derived from it.
        let step = UInt64.max / count
        func entry(_ number: UInt64) -> IndexEntry {
            var generator = SeededGenerator(seed: number)
            let words = (number * step, generator.next(), generator.next(), generator.next())
            let pack = StoreName(high: generator.next() % (count / 100) &* 0x9E37_79B9_7F4A_7C15, low: 1)
            return IndexEntry(
                key: BlobKey(words: words, .data),
                location: BlobLocation(
                    pack: pack, offset: UInt32(truncatingIfNeeded: number), storedByteCount: 1000,
                    contentByteCount: 1 << 20))
        }
        for number in 0..<count { try writer.add(entry(number)) }
        let byteCount = try writer.finish()
        let built = SystemFacts.monotonicSeconds()
        let reopened = try Repository.open(LocalStore(repository.path), keys: nil)
        let indexes = try reopened.indexSet()
        var random = SeededGenerator(seed: 3)
        for _ in 0..<2000 {
            let expected = entry(UInt64.random(in: 0..<count, using: &random))
            #expect(try indexes.hits(expected.key).map(\.hit.entry) == [expected])
            var absent = expected.key
            absent = BlobKey(words: (absent.words.0 + 1, random.next(), random.next(), random.next()), .data)
            #expect(try indexes.hits(absent).isEmpty)
        }
        let lookedUp = SystemFacts.monotonicSeconds()
        let after = ProcessMemory.residentByteCount()
        print(
            "index of \(count) entries: \(byteCount >> 20) MiB, built in \(Int(built - began)) s, 4000 lookups in "
                + "\(Int((lookedUp - built) * 1000)) ms; resident \(before >> 20) MiB before, \(after >> 20) MiB after")
        #expect(after - before < 256 << 20)
    }
}
