// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Imaging
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport

@testable import ImageFiles
@testable import ImageModel
@testable import Repository

extension Judge {
    private static func bytes(_ reader: any BlockReader) throws -> [UInt8] {
        try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 8 << 20)))
    }

    /// The payload of an image's header.
    static func manifest(_ reader: any BlockReader) throws {
        guard let header = try? ImageHeader(payload: try bytes(reader), name: "hostile") else { return }
        try checkPlans(of: header, "this header")
    }

    /// A header is unchanged after it is written and read again, and restores of it are planned or refused.
    static func checkPlans(of header: ImageHeader, _ what: String) throws {
        for (map, region) in zip(header.maps, header.manifest.regions) {
            try demand(map.byteCount == region.range.byteCount, "a map of another length")
        }
        let again: ImageHeader
        do { again = try ImageHeader(payload: try header.payload(), name: "again") } catch {
            throw Verdict("\(what) cannot be read again: \(error)")
        }
        try demand(again == header, "\(what) is another one when it is read again")
        let source = header.manifest.geometry
        for byteCount in [source.byteCount, source.byteCount / 4 * 5, source.byteCount / 3 * 2] {
            for (policy, sectorSize) in [(LayoutPolicy.keep, 512), (.grow, 512), (.proportional, 512), (.grow, 4096)] {
                let target = DiskGeometry(byteCount: byteCount / 4096 * 4096, logicalSectorSize: sectorSize)
                _ = try? RestorePlanner.plan(
                    header, onto: DiskIdentity(path: "target"), geometry: target, request: LayoutRequest(policy: policy)
                )
            }
        }
    }

    /// An image file, plain or encrypted under `password` at low cost: its ends, and front to back.
    static func image(_ reader: any BlockReader) throws {
        let scratch = try Scratch()
        let path = scratch.path.appending("image")
        let output = try FileDescriptor.open(
            path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        try output.closeAfter { _ = try output.writeAll(try bytes(reader)) }
        let file = try? ImageFile(path, unlock: unlock)
        let descriptor = try ImageFile.openForStreaming(path.string)
        guard let stream = try? ImageStreamReader(descriptor.raw, name: "hostile", unlock: unlock) else {
            try demand(file == nil, "an image that cannot be streamed is whole")
            return
        }
        let ended = try readAll(stream)
        // Both ways give the same image, unless a chunk is damaged.
        if let file, let ended { try demand(ended.lateFacts == file.lateFacts, "late facts differ") }
        if ended != nil { try demand(file != nil, "the stream is confirmed, the file is not") }
    }

    /// The password of encrypted fixtures, and the limit of its cost.
    static let password = Array("fuzz".utf8)
    static let cost = PasswordCost(rounds: 2, blockSize: 1, parallelism: 1)

    @Sendable static func unlock(_ name: String, _ keys: [WrappedKey]) throws(ImageError) -> MasterKeys {
        // The cost of a hostile key is bounded by 1 GiB and minutes: not tried thousands of times.
        guard keys.allSatisfy({ $0.scrypt.rounds <= 16 && $0.scrypt.parallelism == 1 }) else {
            return try EncryptedImage.withoutPassword(name, keys)
        }
        return try EncryptedImage.unlock(name, keys, password: password)
    }

    /// Reads all records, which must ascend without a gap.
    /// - Returns: the ending of the capture; `nil` where it is damaged.
    private static func readAll(_ reader: some ImageReader) throws -> ImageEnding? {
        let decoder = try ChunkDecoder(reader.coding)
        var position: UInt64 = 0
        do {
            while let record = try reader.nextRecord() {
                try demand(record.range.lowerBound == position, "a hole at \(position)")
                position = record.range.upperBound
                guard record.kind == .data else { continue }
                try demand(record.range.byteCount <= 64 << 20, "a chunk of \(record.range.byteCount) bytes")
                var stored = [UInt8](repeating: 0, count: record.storedByteCount)
                let read = stored.withUnsafeMutableBytes { buffer in
                    Result { () throws(ImageError) in try reader.readStored(into: buffer) }
                }
                try read.get()
                var content = [UInt8](repeating: 0, count: Int(record.range.byteCount))
                try content.withUnsafeMutableBytes { content in
                    try stored.withUnsafeBytes { try decoder.decode($0, id: record.hash, into: content) }
                }
            }
        } catch let verdict as Verdict {
            throw verdict
        } catch { return nil }
        try demand(position == reader.header.manifest.geometry.byteCount, "an end at \(position)")
        try demand(reader.ending != nil, "an end without a confirmation")
        return reader.ending
    }

    /// A whole repository in the format of `RepositoryArchive`.
    static func repository(_ reader: any BlockReader) throws {
        guard let archive = RepositoryArchive(try bytes(reader)) else { return }
        let scratch = try Scratch()
        // Names may be damaged too: a folder cannot be a file.
        guard (try? archive.unpack(to: scratch.path)) != nil else { return }
        guard let repository = try? Repository.open(LocalStore(scratch.path), keys: nil) else { return }
        _ = repository.snapshotInfos()
        for snapshot in repository.snapshots().whole {
            guard let reader = try? repository.reader(snapshot) else { continue }
            try checkPlans(of: reader.header, "this snapshot")
            _ = try readAll(reader)
        }
        _ = try? repository.verify(readDataPercent: 100, seed: 1)
    }

    /// A piece of a chunk list or a map in a repository: its contents stay inside its chunks.
    static func piece(_ reader: any BlockReader) throws {
        let bytes = try bytes(reader)
        if let list = try? ListPiece(bytes, chunkCount: 1024) {
            try demand(list.chunkCount == 1024, "a list of \(list.chunkCount) chunks")
            try demand(list.entries.count <= 1024, "a list of \(list.entries.count) entries")
        }
        let span: ByteRange = 1 << 30..<2 << 30
        var map = AllocationMap(byteCount: 3 << 30)
        try? MapPiece.insert(bytes, span: span, into: &map)
        try demand(map.ranges.allSatisfy { span.covers($0) }, "a map that leaves its piece")
    }

    /// A folder that is removed with the last reference, in memory where possible.
    private final class Scratch {
        let path: FilePath
        init() throws {
            path = try Files.makeTemporaryFolder("reforge-fuzz", in: Files.exists("/dev/shm") ? "/dev/shm" : nil)
        }
        deinit { RepositoryArchive.remove(path) }
    }
}
