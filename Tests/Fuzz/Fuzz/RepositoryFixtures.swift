// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport

@testable import ImageModel
@testable import Repository

/// A repository as a `RepositoryArchive`; its snapshot stands there as its payload, before compression.
extension ImageFixtures {
    private static let payloadName = "payload"

    static func makeRepository() throws -> [UInt8] {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(
            in: LocalStore(scratch.path.appending("r")), chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: nil)
        var random = SeededGenerator(seed: 4)
        let disk = try MadeUpDiskCapture(&random, partitionByteCount: 300_032)
        let writer = try repository.writer(header: disk.header, host: "host", disk: "disk", tags: ["a"], level: 3)
        try disk.capture(into: writer)
        return try RepositoryArchive(packing: scratch.path.appending("r")).bytes
    }

    static func repository(_ bytes: [UInt8]) throws -> HostileFixture {
        let archive = try HostileFixture.some(RepositoryArchive(bytes), "archive")
        let file = try HostileFixture.some(archive.files.first { $0.path == "repository.json" }, "configuration")
        let configuration = try JSONText.decode(RepositoryConfiguration.self, file.bytes)
        let secrets = RepositorySecrets(uuid: configuration.uuid, keys: nil)
        var plain = RepositoryArchive(files: [])
        for file in archive.files {
            guard file.path.hasPrefix("snapshots/") else {
                plain.add(file.path, file.bytes)
                continue
            }
            let id = try HostileFixture.some(
                ContentHash(bytes: Hexadecimal.bytes(String(file.path.dropFirst(10))) ?? []), "id")
            let stored = try secrets.protection.open(
                Array(file.bytes[SnapshotFile.headByteCount...]), context: secrets.context("snapshot", id.bytes))
            plain.add(payloadName, try Zstd.decompress(stored, limit: 1 << 24))
        }
        var areas: [Range<Int>] = []
        var sums: [Sum] = []
        for (path, range) in plain.places {
            let contents = Array(plain.bytes[range])
            let found = try parts(path, contents, secrets)
            sums += found.map {
                Sum(
                    range: $0.range.lowerBound + range.lowerBound..<$0.range.upperBound + range.lowerBound,
                    context: $0.context)
            }
            areas += found.map { range.lowerBound + $0.range.lowerBound..<range.lowerBound + $0.range.upperBound }
            if found.isEmpty { areas.append(range) }
        }
        var fixture = HostileFixture(plain.bytes, areas: areas)
        let (mended, total) = (sums, plain.bytes.count)
        fixture.mend = { reader in
            for sum in mended {
                var part = try reader.current(sum.range)
                if let context = sum.context {
                    part = try secrets.protection.protect(
                        Array(part.dropLast(RepositoryFormat.protectionByteCount)), context: context)
                } else {
                    part.setLittleEndian(CRC32.iso.checksum(part.dropLast(4)), at: part.count - 4)
                }
                reader.patches.append((sum.range.lowerBound, part))
            }
            guard let changed = RepositoryArchive(try reader.current(0..<total)) else { return }
            var result = RepositoryArchive(files: [])
            for file in changed.files {
                switch file.path {
                case payloadName:
                    let id = secrets.identity.id(of: file.bytes)
                    result.add("snapshots/\(id)", try SnapshotFile.bytes(payload: file.bytes, id: id, secrets))
                case "repository.json":
                    // The checksum that is there may be damaged too: then it is not mended.
                    var open = file.bytes
                    let mark = Array("\"checksum\" : \"".utf8)
                    if let place = place(of: mark, in: open), place + 8 <= open.count {
                        open.replaceSubrange(place..<place + 8, with: Array("00000000".utf8))
                        let digits = String(CRC32.iso.checksum(open), radix: 16)
                        let text = String(repeating: "0", count: 8 - digits.count) + digits
                        open.replaceSubrange(place..<place + 8, with: Array(text.utf8))
                    }
                    result.add(file.path, open)
                default: result.add(file.path, file.bytes)
                }
            }
            reader = PatchedReader(result.bytes)
        }
        return fixture
    }

    /// Where `mark` ends.
    private static func place(of mark: [UInt8], in bytes: [UInt8]) -> Int? {
        guard bytes.count >= mark.count else { return nil }
        return (0...bytes.count - mark.count).first { bytes[$0..<$0 + mark.count].elementsEqual(mark) }.map {
            $0 + mark.count
        }
    }

    /// A part of a file under a checksum: with a context, protected; else under a CRC-32 in its last four bytes.
    private struct Sum: Sendable {
        var range: Range<Int>
        var context: [UInt8]?
    }

    private static func parts(_ path: String, _ bytes: [UInt8], _ secrets: RepositorySecrets) throws -> [Sum] {
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        guard let name = StoreName(name) else { return [] }
        if path.hasPrefix("indexes/") {
            var sums = [Sum(range: 0..<52), Sum(range: 0..<4096)]
            let endStart = bytes.count - IndexEnd.storedByteCount
            let end = try IndexEnd(Array(bytes[endStart..<endStart + IndexEnd.byteCount]))
            for page in 0..<end.pageCount {
                let start = 4096 * Int(page + 1)
                sums.append(
                    Sum(range: start..<start + 4096, context: secrets.context("index page", name.bytes, part: page)))
            }
            let offsets = try end.tableOffsets(UInt64(bytes.count)).map(Int.init)
            for (index, what) in ["index packs", "index fences", "index filter"].enumerated() {
                sums.append(
                    Sum(range: offsets[index]..<offsets[index + 1], context: secrets.context(what, name.bytes)))
            }
            sums.append(Sum(range: endStart..<bytes.count, context: secrets.context("index end", name.bytes)))
            return sums
        }
        guard path.hasPrefix("packs/") else { return [] }
        let endStart = bytes.count - PackFormat.endPayloadByteCount
        let table = Int(try bytes.littleEndian(UInt64.self, at: endStart + 8))
        let count = Int(try bytes.littleEndian(UInt64.self, at: endStart + 16))
        var sums = [Sum(range: 8..<60), Sum(range: endStart..<bytes.count)]
        sums.append(
            Sum(range: table + 12..<endStart - 8, context: secrets.context("pack table", name.bytes)))
        for index in 0..<count {
            let offset = Int(try bytes.littleEndian(UInt32.self, at: table + 12 + index * 48 + 36))
            sums.append(
                Sum(
                    range: offset - PackFormat.recordFrameByteCount + 12..<offset,
                    context: secrets.context("pack record", name.bytes, part: UInt64(offset))))
        }
        return sums
    }
}
