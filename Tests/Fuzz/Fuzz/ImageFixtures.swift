// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import ImageFiles
@testable import ImageModel
@testable import Imaging

/// Small sound images, and how their checksums are made right again.
enum ImageFixtures {
    /// The same at each call: what an input means depends on it.
    private static func disk() throws -> MadeUpDiskCapture {
        var random = SeededGenerator(seed: 4)
        return try MadeUpDiskCapture(&random, partitionByteCount: 300_032)
    }

    private static func made(_ write: (FileDescriptor) throws -> Void) throws -> [UInt8] {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        let file = try FileDescriptor.open(path, .writeOnly, options: .create, permissions: .ownerReadWrite)
        try file.closeAfter { try write(file) }
        return try Files.read(path)
    }

    static func makeImage() throws -> [UInt8] {
        let disk = try disk()
        return try made { file in
            try disk.capture(into: try ImageFileWriter(to: file, name: "image", header: disk.header))
        }
    }

    /// Its records, index, late facts and footer; the header has a target of its own.
    static func image(_ bytes: [UInt8]) throws -> HostileFixture {
        let start = bytes.count - ImageFormat.footerByteCount
        let footer = try ImageFooter(payload: Array(bytes[start...]))
        let headerCount = Int(try bytes.littleEndian(UInt32.self, at: 4))
        var records: [Int] = []
        var place = 8 + headerCount
        while place < Int(footer.indexOffset) {
            let record = try ChunkRecord(payload: try bytes.bytes(at: place + 8, count: ImageFormat.recordByteCount))
            records.append(place + 8)
            place += ImageFormat.recordFrameByteCount + record.storedByteCount
        }
        let entries = Int(footer.indexOffset) + 12
        let late = Int(footer.lateFactsOffset) + 12..<start - 8
        var areas = records.map { $0..<$0 + 64 }
        areas += records.map { $0 - 8..<$0 }
        areas += records.map { $0 + 64..<$0 + 64 + 24 }
        areas += [
            start..<bytes.count, start..<start + 40, late, entries - 12..<entries, entries..<late.lowerBound - 12,
        ]
        var fixture = HostileFixture(bytes, areas: areas)
        fixture.mend = { [records] reader in
            for (index, place) in records.enumerated() {
                var payload = try reader.current(place..<place + 64)
                payload.setLittleEndian(CRC32.iso.checksum(payload[0..<28] + payload[32..<64]), at: 28)
                reader.patches.append((place, payload))
                reader.patches.append((entries + index * ImageFormat.indexEntryByteCount, payload))
            }
            var identity = ContentHash.Running()
            identity.update(Array(bytes[8..<8 + headerCount]))
            identity.update(
                try reader.current(entries..<entries + records.count * ImageFormat.indexEntryByteCount))
            var end = try reader.current(start..<start + ImageFormat.footerByteCount)
            end.replaceSubrange(40..<72, with: identity.finish().bytes)
            end.replaceSubrange(72..<104, with: ContentHash(of: try reader.current(late)).bytes)
            end.setLittleEndian(CRC32.iso.checksum(end.dropLast(4)), at: 124)
            reader.patches.append((start, end))
        }
        return fixture
    }

    static func makeEncrypted() throws -> [UInt8] {
        let disk = try disk()
        let seal = try ImageSeal(password: Judge.password, cost: Judge.cost)
        return try made { file in
            try disk.capture(into: try ImageFileWriter(to: file, name: "image", header: disk.header, seal: seal))
        }
    }

    /// Its plain head, the lengths of its first frames, and its end.
    static func encrypted(_ bytes: [UInt8]) throws -> HostileFixture {
        let keys = Int(try bytes.littleEndian(UInt32.self, at: 12))
        let end = 16 + keys
        var fixture = HostileFixture(
            bytes, areas: [0..<20, 20..<end, 20..<end, end..<end + 64, bytes.count - 256..<bytes.count])
        fixture.mend = { reader in
            var sum: [UInt8] = []
            sum.appendLittleEndian(CRC32.iso.checksum(try reader.current(0..<end)))
            reader.patches.append((end, sum))
        }
        return fixture
    }

    static func journalSlots() -> [[UInt8]] {
        (1...2 as ClosedRange<UInt64>).map {
            RestoreJournal(sequence: $0, imageUUID: .zero, planDigest: ContentHash(of: [1]), position: $0 << 20).slot
        }
    }

    /// An input for the header: the manifest's JSON, a byte that no UTF-8 has, the maps as they are before compression.
    static func headerSeeds() throws -> [[UInt8]] {
        let payload = try disk().header.payload()
        let jsonCount = Int(try payload.littleEndian(UInt32.self, at: 12))
        let stored = try payload.bytes(at: 24 + jsonCount, count: Int(try payload.littleEndian(UInt32.self, at: 16)))
        let maps = try Zstd.decompress(stored, limit: Int(try payload.littleEndian(UInt32.self, at: 20)))
        return [try payload.bytes(at: 24, count: jsonCount) + [0xFF] + maps]
    }

    /// The header's payload of such an input, with right lengths and checksum.
    static func payload(_ input: [UInt8]) throws -> [UInt8] {
        let json = Array(input.prefix { $0 != 0xFF })
        let maps = Array(input.dropFirst(json.count + 1))
        let stored = try Zstd.compress(maps)
        var bytes = ImageFormat.headerTag
        bytes.appendLittleEndian(ImageFormat.version.major)
        bytes.appendLittleEndian(ImageFormat.version.minor)
        for count in [json.count, stored.count, maps.count] { bytes.appendLittleEndian(UInt32(count)) }
        bytes += json + stored
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }
}
