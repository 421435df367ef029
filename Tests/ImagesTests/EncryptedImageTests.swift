// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

@Suite struct EncryptedImageTests {
    static let password = Array("correct horse".utf8)
    private static let chunk = 64 << 10
    /// Text that must not appear in the file.
    private static let secret = "the recipe of the sauce"

    /// A disk of 576 KiB: a gap, a partition with data, zeros and unused space, and a gap.
    static func header(note: String = secret) throws -> ImageHeader {
        let uuid = try GUID(bigEndianBytes: Array(0..<16))
        let unit = UInt64(chunk)
        var map = AllocationMap(byteCount: 7 * unit)
        map.insert(0..<unit)
        map.insert(2 * unit..<3 * unit + 4096)
        map.insert(6 * unit..<7 * unit)
        let maps = [AllocationMap.whole(byteCount: unit), map, AllocationMap.whole(byteCount: unit)]
        let table = PartitionTable(
            kind: .gpt, diskGUID: uuid, usable: 17_408..<8 * unit, entryCount: 128,
            partitions: [
                Partition(
                    number: 1, range: unit..<8 * unit, typeGUID: uuid, guid: uuid, name: "partition name", attributes: 4
                )
            ])
        let manifest = Manifest(
            imageUUID: uuid, captureSet: .init(uuid: uuid), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios", hostName: "hidden-host"),
            disk: DiskIdentity(path: "/dev/hidden"), geometry: DiskGeometry(byteCount: 9 * unit), table: table,
            tableHead: [1, 2, 3], tableTail: [4, 5], boot: BootSurvey(),
            regions: [
                .init(kind: .gap, range: 0..<unit, usedByteCount: unit),
                .init(
                    kind: .partition, range: unit..<8 * unit, partition: 1,
                    filesystem: FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures),
                    usedByteCount: map.usedByteCount),
                .init(kind: .gap, range: 8 * unit..<9 * unit, usedByteCount: unit),
            ], chunkByteCount: chunk, level: 3, allSectors: false, mountedReadWrite: [],
            usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount }, started: "2026-01-02T03:04:05Z",
            localOffsetSeconds: 3600, note: note, tags: ["a"])
        return ImageHeader(manifest: manifest, maps: maps)
    }

    /// The contents of a chunk of data, by its number.
    static func content(_ number: UInt64) -> [UInt8] {
        let text = Array("\(secret) \(number)\n".utf8)
        return (0..<chunk).map { text[$0 % text.count] }
    }

    /// The offsets of the parts of a written image: a record and its data are one part.
    struct Written {
        var bytes: [UInt8]
        var parts: [Range<Int>]
        var id: ContentHash
    }

    /// Writes an image through a pipe.
    static func write(_ seal: ImageSeal?, header: ImageHeader? = nil, salt: UInt64 = 0) throws -> Written {
        let header = try header ?? Self.header()
        let (input, output) = try FileDescriptor.pipe(options: .closeOnExec)
        let received = Monitor<[UInt8]>([])
        let thread = try WorkerThread {
            let bytes = (try? Files.readAll(input, "pipe", limit: 1 << 30)) ?? []
            received.update { $0 = bytes }
        }
        var places: [Int] = []
        let id: ContentHash
        do {
            defer {
                try? output.close()
                thread.join()
                try? input.close()
            }
            let writer = try ImageFileWriter(to: output, name: "pipe", header: header, seal: seal)
            places.append(Int(writer.byteCount))
            let encoder = try ChunkEncoder(writer.coding)
            let unit = UInt64(chunk)
            func data(_ region: Int, _ number: UInt64) throws {
                let content = Self.content(number &+ salt)
                var stored = [UInt8](repeating: 0, count: ChunkCoding.bound(chunk))
                let hash = writer.coding.identity.id(of: content)
                let count = try stored.withUnsafeMutableBytes { stored in
                    try content.withUnsafeBytes { try encoder.encode($0, id: hash, into: stored) }
                }
                let record = ChunkRecord(
                    kind: .data, region: region, range: number * unit..<(number + 1) * unit, storedByteCount: count,
                    hash: hash)
                try stored.withUnsafeBytes {
                    try writer.append(record, stored: UnsafeRawBufferPointer(rebasing: $0[..<count]))
                }
                places.append(Int(writer.byteCount))
            }
            func run(_ kind: RangeKind, _ region: Int, _ range: Range<UInt64>) throws {
                try writer.appendRun(kind, region: region, range: range.lowerBound * unit..<range.upperBound * unit)
                places.append(Int(writer.byteCount))
            }
            try data(0, 0)
            try data(1, 1)
            try run(.unused, 1, 2..<3)
            try run(.zero, 1, 3..<5)
            try run(.unused, 1, 5..<7)
            try data(1, 7)
            try data(2, 8)
            id = try writer.finish(LateFacts(ended: "2026-01-02T03:05:05Z", warnings: ["late warning"])).id
        }
        let bytes = received.update { $0 }
        // Head and header; records; then index, late facts and footer by their lengths.
        var starts = [0]
        if seal != nil { starts.append(Int(try bytes.littleEndian(UInt32.self, at: 12)) + 20) }
        starts += places
        if seal != nil {
            while let last = starts.last, last < bytes.count {
                starts.append(last + 4 + Int(try bytes.littleEndian(UInt32.self, at: last)))
            }
        }
        let parts = zip(starts, starts.dropFirst()).map { $0..<$1 }
        return Written(bytes: bytes, parts: parts, id: id)
    }

    struct Contents: Equatable {
        var header: ImageHeader
        var records: [ChunkRecord]
        var contents: [[UInt8]]
        var ending: ImageEnding
    }

    /// Reads all of an image from a descriptor.
    static func read(_ descriptor: FileDescriptor, password: [UInt8] = password) throws -> Contents {
        let reader = try ImageStreamReader(descriptor, name: "image") { name, keys throws(ImageError) in
            try EncryptedImage.unlock(name, keys, password: password)
        }
        let decoder = try ChunkDecoder(reader.coding)
        var (records, contents): ([ChunkRecord], [[UInt8]]) = ([], [])
        while let record = try reader.nextRecord() {
            records.append(record)
            guard record.kind == .data else { continue }
            var stored = [UInt8](repeating: 0, count: record.storedByteCount)
            try stored.withUnsafeMutableBytes { try reader.readStored(into: $0) }
            var content = [UInt8](repeating: 0, count: Int(record.range.byteCount))
            try content.withUnsafeMutableBytes { content in
                try stored.withUnsafeBytes { try decoder.decode($0, id: record.hash, into: content) }
            }
            contents.append(content)
        }
        guard let ending = reader.ending else { throw ImageError.key("no ending") }
        return Contents(header: reader.header, records: records, contents: contents, ending: ending)
    }

    /// A file that is rewritten repeatedly, without waiting for a disk.
    final class Slate {
        let path: FilePath
        private let descriptor: OwnedDescriptor
        private let scratch: ScratchFolder
        init() throws {
            scratch = try ScratchFolder()
            path = scratch.path.appending("image")
            descriptor = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        }
        func write(_ bytes: [UInt8]) throws {
            try Files.resize(descriptor.raw, path.string, to: 0)
            _ = try descriptor.raw.writeAll(toAbsoluteOffset: 0, bytes)
        }
        func read(_ bytes: [UInt8], password: [UInt8] = EncryptedImageTests.password) throws -> Contents {
            try write(bytes)
            let file = try OwnedDescriptor.open(path, .readOnly)
            return try EncryptedImageTests.read(file.raw, password: password)
        }
    }

    static func seal() throws -> ImageSeal { try ImageSeal(password: password, cost: cheap) }

    @Test func whatIsWrittenIsRead() throws {
        let written = try Self.write(try Self.seal())
        #expect(written.bytes.starts(with: Array("RFIMGENC".utf8)))
        #expect(written.parts.count == 2 + 7 + 3 && written.parts.last?.upperBound == written.bytes.count)
        let slate = try Slate()
        let contents = try slate.read(written.bytes)
        #expect(contents.header == (try Self.header()))
        #expect(contents.contents == [0, 1, 7, 8].map(Self.content))
        #expect(contents.ending.id == written.id && contents.ending.lateFacts.warnings == ["late warning"])
        #expect(contents.records.map(\.kind) == [.data, .data, .unused, .zero, .unused, .data, .data])
        // Equal to a plain image, except for the stored bytes and their offsets.
        let plain = try slate.read(try Self.write(nil).bytes)
        #expect(plain.header == contents.header && plain.contents == contents.contents)
        #expect(plain.records.map(\.range) == contents.records.map(\.range))
        #expect(plain.records.map(\.hash) == contents.records.map(\.hash))

        try slate.write(written.bytes)
        let file = try ImageFile(slate.path) { name, keys throws(ImageError) in
            try EncryptedImage.unlock(name, keys, password: Self.password)
        }
        #expect(file.isEncrypted && file.header == contents.header && file.lateFacts == contents.ending.lateFacts)
        #expect(file.footer.imageID == written.id && file.footer.fileByteCount == UInt64(written.bytes.count))
        #expect(throws: ImageError.self) { try ImageFile(slate.path) }
    }

    @Test func aPipeIsReadAndChunksOfAFileCanBeReadLater() throws {
        let written = try Self.write(try Self.seal())
        let (input, output) = try FileDescriptor.pipe(options: .closeOnExec)
        defer { try? input.close() }
        let bytes = written.bytes
        let thread = try WorkerThread {
            // In pieces of odd lengths.
            var place = 0
            while place < bytes.count {
                let end = min(bytes.count, place + 1 + place % 97)
                _ = try? output.writeAll(bytes[place..<end])
                place = end
            }
            try? output.close()
        }
        let contents = try Self.read(input)
        thread.join()
        #expect(contents.ending.id == written.id && contents.contents == [0, 1, 7, 8].map(Self.content))

        let slate = try Slate()
        try slate.write(bytes)
        let file = try OwnedDescriptor.open(slate.path, .readOnly)
        let reader = try ImageStreamReader(file.raw, name: "image") { name, keys throws(ImageError) in
            try EncryptedImage.unlock(name, keys, password: Self.password)
        }
        var fetches: [(ChunkRecord, StoredFetch)] = []
        while let record = try reader.nextRecord() {
            if record.kind == .data { fetches.append((record, try #require(reader.storedFetch()))) }
        }
        #expect(reader.ending?.id == written.id)
        let decoder = try ChunkDecoder(reader.coding)
        for ((record, fetch), number) in zip(fetches, [0, 1, 7, 8] as [UInt64]).reversed() {
            var stored = [UInt8](repeating: 0, count: record.storedByteCount)
            try stored.withUnsafeMutableBytes { try fetch($0) }
            var content = [UInt8](repeating: 0, count: Self.chunk)
            try content.withUnsafeMutableBytes { content in
                try stored.withUnsafeBytes { try decoder.decode($0, id: record.hash, into: content) }
            }
            #expect(content == Self.content(number))
        }
    }

    @Test func aWrongPasswordIsOneClearError() throws {
        let written = try Self.write(try Self.seal())
        let slate = try Slate()
        #expect(Self.keyError { _ = try slate.read(written.bytes, password: [1]) } == "wrong password for image")
        let path = slate.path
        #expect(Self.keyError { _ = try ImageFile(path) }?.contains("is encrypted") == true)
    }

    /// The sentence of a key error.
    private static func keyError(_ body: () throws -> Void) -> String? {
        do { try body() } catch let error as ImageError {
            if case .key(let why) = error { return why }
        } catch {}
        return nil
    }

    @Test func nothingOfTheContentsCanBeRead() throws {
        let written = try Self.write(try Self.seal())
        let plain = try Self.write(nil)
        // The same strings are found in a plain image: this validates the search.
        let needles =
            [
                "hidden-host", "/dev/hidden", "partition", "ext4", "2026-01-02", "late warning", "RFIMGHDR", "RFCR",
                "RFIX",
                "RFLF", "RFIMGFTR", "regions",
            ].map { Array($0.utf8) } + [
                [0x28, 0xB5, 0x2F, 0xFD], Array(Self.secret.utf8),
                Array(ContentHash(of: Self.content(0)).bytes.prefix(8)),
                Array(written.id.bytes.prefix(8)),
            ]
        func contains(_ bytes: [UInt8], _ needle: [UInt8]) -> Bool {
            (0...bytes.count - needle.count).contains { bytes[$0..<$0 + needle.count].elementsEqual(needle) }
        }
        for needle in needles {
            #expect(!contains(written.bytes, needle), "\(String(decoding: needle, as: UTF8.self)) stands in the file")
        }
        #expect(
            needles.dropLast(1).allSatisfy { contains(plain.bytes, $0) || contains(plain.bytes, Array($0.reversed())) })
        // Capturing the same disk twice gives different bytes.
        let again = try Self.write(try Self.seal())
        for part in written.parts.dropFirst() {
            #expect(!contains(again.bytes, Array(written.bytes[part].suffix(16))))
        }
    }

    /// Any flipped bit: no image is accepted as intact.
    @Test func everyFlippedBitIsReported() throws {
        let written = try Self.write(try Self.seal())
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let slate = try Slate()
        var count = 0
        for byte in written.bytes.indices {
            for bit in Sample.isFull ? Array(0..<8) : [UInt8.random(in: 0..<8, using: &random)] {
                var damaged = written.bytes
                damaged[byte] ^= 1 << UInt8(bit)
                count += 1
                do {
                    _ = try slate.read(damaged)
                    Issue.record("bit \(bit) of byte \(byte) was not seen, seed \(seed)")
                } catch {}
            }
        }
        print("\(count) flipped bits of an encrypted image of \(written.bytes.count) bytes, seed \(seed)")
    }

    @Test func aFileIsCheckedAtBothEndsWithoutReadingAllOfIt() throws {
        let written = try Self.write(try Self.seal())
        let slate = try Slate()
        // Head, header, and the three parts of the end.
        for part in written.parts.prefix(2) + written.parts.suffix(3) {
            for byte in stride(from: part.lowerBound, to: part.upperBound, by: 7) {
                var damaged = written.bytes
                damaged[byte] ^= 0x40
                try slate.write(damaged)
                #expect(throws: ImageError.self, "byte \(byte)") {
                    try ImageFile(slate.path) { name, keys throws(ImageError) in
                        try EncryptedImage.unlock(name, keys, password: Self.password)
                    }
                }
            }
        }
    }

    @Test func framesInAnotherOrderAreReported() throws {
        let written = try Self.write(try Self.seal())
        let slate = try Slate()
        let parts = written.parts.map { Array(written.bytes[$0]) }
        #expect(try slate.read(parts.flatMap(\.self)).ending.id == written.id)
        func expectRefused(_ parts: [[UInt8]], _ what: String) {
            #expect(throws: (any Error).self, "\(what)") { try slate.read(parts.flatMap(\.self)) }
        }
        for index in parts.indices {
            var changed = parts
            changed.remove(at: index)
            expectRefused(changed, "without part \(index)")
            changed = parts
            changed.insert(parts[index], at: index)
            expectRefused(changed, "part \(index) twice")
            changed = parts
            changed.append(parts[index])
            expectRefused(changed, "part \(index) at the end")
            expectRefused(Array(parts[...index].dropLast()), "only \(index) parts")
            for other in parts.indices where other > index {
                changed = parts
                changed.swapAt(index, other)
                expectRefused(changed, "parts \(index) and \(other) swapped")
            }
        }
    }

    /// Cut off anywhere, or with appended bytes.
    @Test func everyOtherLengthIsReported() throws {
        let written = try Self.write(try Self.seal())
        let slate = try Slate()
        let step = Sample.isFull ? 1 : 3
        for count in stride(from: 0, to: written.bytes.count, by: step) {
            #expect(throws: (any Error).self, "\(count) bytes") { try slate.read(Array(written.bytes.prefix(count))) }
        }
        for more in [[0], Array("more".utf8), [UInt8](repeating: 0, count: 5000), written.bytes] {
            #expect(throws: ImageError.self) { try slate.read(written.bytes + more) }
        }
    }

    @Test func partsOfAnotherImageAreReported() throws {
        let first = try Self.write(try Self.seal())
        let slate = try Slate()
        // Another image under the same password; and the worst case, which Reforge never produces: the same keys.
        let shared = try Self.seal()
        for (one, other, isShared) in [
            (first, try Self.write(try Self.seal()), false),
            (try Self.write(shared), try Self.write(shared, header: try Self.header(note: "another"), salt: 5), true),
        ] {
            let whole = try slate.read(one.bytes)
            for index in one.parts.indices {
                var parts = one.parts.map { Array(one.bytes[$0]) }
                parts[index] = Array(other.bytes[other.parts[index]])
                // The head of another image with the same keys is interchangeable.
                if parts[index] == Array(one.bytes[one.parts[index]]) { continue }
                // Records of runs and late facts may be equal in both images: such an exchange changes nothing.
                let contents = try? slate.read(parts.flatMap(\.self))
                #expect(contents == nil || contents == whole && isShared, "part \(index)")
            }
        }
    }
}
