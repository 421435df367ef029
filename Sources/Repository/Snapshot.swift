// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// A capture in a repository: the contents of its file. Its chunk lists and maps are stored as separate contents.
package struct Snapshot: Sendable {
    /// The entry shown in lists.
    package var info: SnapshotInfo
    /// The description of its disk.
    package var manifest: Manifest
    /// The facts known at the end of the capture.
    package var lateFacts: LateFacts
    /// The amounts stored by the capture.
    package var statistics: Statistics
    /// For each region of the manifest, its pieces in order.
    package var regions: [RegionPieces]

    /// The amounts stored by a capture.
    package struct Statistics: Codable, Equatable, Sendable {
        /// The bytes in use of newly stored chunks.
        package var newByteCount: UInt64
        /// The bytes in use of chunks that were already stored.
        package var deduplicatedByteCount: UInt64
        /// The growth of packs and indexes, in bytes.
        package var storedByteCount: UInt64
    }

    /// The ids of the pieces of a region's chunk list and of its map, each for the same 1024 chunks.
    package struct RegionPieces: Equatable, Sendable {
        /// The pieces of the list.
        package var lists: [ContentHash] = []
        /// The pieces of the map.
        package var maps: [ContentHash] = []
        /// No pieces.
        package init() {}
    }

    /// The number of chunks in the grid of a region.
    static func chunkCount(_ region: Manifest.Region, _ chunkByteCount: Int) -> UInt64 {
        let chunk = UInt64(chunkByteCount)
        return region.range.byteCount / chunk + (region.range.byteCount % chunk > 0 ? 1 : 0)
    }

    /// The number of pieces of a region.
    static func pieceCount(_ region: Manifest.Region, _ chunkByteCount: Int) -> UInt64 {
        let piece = UInt64(RepositoryFormat.pieceChunkCount)
        let chunks = chunkCount(region, chunkByteCount)
        return chunks / piece + (chunks % piece > 0 ? 1 : 0)
    }

    /// The bytes of a region, relative to its start, that piece `index` covers.
    static func span(ofPiece index: Int, _ region: Manifest.Region, _ chunkByteCount: Int) -> ByteRange {
        let piece = UInt64(RepositoryFormat.pieceChunkCount) * UInt64(chunkByteCount)
        let start = UInt64(index) * piece
        return start..<min(start + piece, region.range.byteCount)
    }

    /// The number of chunks that piece `index` covers.
    static func chunkCount(ofPiece index: Int, _ region: Manifest.Region, _ chunkByteCount: Int) -> UInt64 {
        let piece = UInt64(RepositoryFormat.pieceChunkCount)
        return min(piece, chunkCount(region, chunkByteCount) - UInt64(index) * piece)
    }
}

/// The JSON of a snapshot's payload.
struct SnapshotFacts: Codable {
    var incompatibleFeatures: [String] = []
    var manifest: Manifest
    var host: String
    var disk: String
    var tags: [String]
    var lateFacts: LateFacts
    var statistics: Snapshot.Statistics
}

/// The file of a snapshot: a head, and the payload, compressed and protected.
enum SnapshotFile {
    /// Tag, version, flags, uuid, length of the payload decompressed, checksum.
    static let headByteCount = 8 + 2 + 2 + 4 + 16 + 4 + 4

    /// The payload: length of the JSON, JSON, then the ids of all pieces, region by region, lists before maps.
    static func payload(_ facts: SnapshotFacts, _ regions: [Snapshot.RegionPieces]) throws -> [UInt8] {
        let json = try JSONText.encode(facts)
        guard json.count <= ImageFormat.largestManifest else {
            throw CodecError("the disk has more partitions than a snapshot can describe")
        }
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(UInt32(json.count))
        bytes += json
        for region in regions {
            for id in region.lists { bytes += id.bytes }
            for id in region.maps { bytes += id.bytes }
        }
        guard bytes.count <= RepositoryFormat.largestSnapshot else {
            throw CodecError("the disk has more chunks than a snapshot can describe: use a larger chunk size")
        }
        return bytes
    }

    static func bytes(payload: [UInt8], id: ContentHash, _ secrets: RepositorySecrets) throws(CodecError) -> [UInt8] {
        var bytes = RepositoryFormat.snapshotTag
        bytes.appendLittleEndian(RepositoryFormat.version.major)
        bytes.appendLittleEndian(RepositoryFormat.version.minor)
        bytes.appendLittleEndian(secrets.flags)
        bytes += secrets.uuid.textOrderBytes
        bytes.appendLittleEndian(UInt32(payload.count))
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
            + (try secrets.protection.protect(
                try Zstd.compress(payload, level: 3), context: secrets.context("snapshot", id.bytes)))
    }

    /// Decodes the bytes of the file named `id`, which messages call `path`.
    static func snapshot(
        _ bytes: [UInt8], id: ContentHash, chunkByteCount: Int, _ secrets: RepositorySecrets, path: String
    ) throws(ImageError) -> Snapshot {
        do {
            guard bytes.count > headByteCount else { throw ImageError.truncated(name: path, at: UInt64(bytes.count)) }
            guard Array(bytes[..<8]) == RepositoryFormat.snapshotTag else {
                throw ParsingError.invalid(what: "its first bytes")
            }
            guard try bytes.littleEndian(UInt32.self, at: 36) == CRC32.iso.checksum(Array(bytes[..<36])) else {
                throw ParsingError.invalid(what: "the checksum of its head")
            }
            let major: UInt16 = try bytes.littleEndian(at: 8)
            let flags: UInt32 = try bytes.littleEndian(at: 12)
            guard major <= RepositoryFormat.version.major, flags & ~RepositoryFormat.sealedFlag == 0 else {
                throw ImageError.unsupported(name: path, what: "its format is version \(major)")
            }
            guard Array(bytes[16..<32]) == secrets.uuid.textOrderBytes else {
                throw ParsingError.invalid(what: "it belongs to another repository, and here it")
            }
            guard flags == secrets.flags else { throw ParsingError.invalid(what: "whether it is encrypted") }
            let byteCount = Int(try bytes.littleEndian(UInt32.self, at: 32))
            guard byteCount <= RepositoryFormat.largestSnapshot else {
                throw ParsingError.invalid(what: "a payload of \(byteCount) bytes")
            }
            let payload = try Zstd.decompress(
                try secrets.protection.open(
                    Array(bytes[headByteCount...]), context: secrets.context("snapshot", id.bytes)),
                limit: byteCount)
            guard payload.count == byteCount, secrets.identity.id(of: payload) == id else {
                throw ParsingError.invalid(what: "its content does not match its name, so it")
            }
            return try snapshot(payload: payload, id: id, chunkByteCount: chunkByteCount, path: path)
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(name: path, what: "\(error)", fileOffset: 0, disk: nil, partition: nil)
        }
    }

    private static func snapshot(
        payload: [UInt8], id: ContentHash, chunkByteCount: Int, path: String
    ) throws -> Snapshot {
        let jsonByteCount = Int(try payload.littleEndian(UInt32.self, at: 0))
        let json = try payload.bytes(at: 4, count: jsonByteCount)
        // Features first: without them, the rest may not be decodable.
        struct Features: Decodable {
            struct OfManifest: Decodable { var incompatibleFeatures: [String] }
            var incompatibleFeatures: [String]
            var manifest: OfManifest
        }
        let features = try JSONText.decode(Features.self, json)
        if let unknown = features.incompatibleFeatures.first
            ?? features.manifest.incompatibleFeatures.first(where: {
                !Manifest.knownIncompatibleFeatures.contains($0)
            })
        {
            throw ImageError.unsupported(name: path, what: "it uses the feature \"\(unknown)\"")
        }
        let facts = try JSONText.decode(SnapshotFacts.self, json)
        let manifest = facts.manifest
        if let contradiction = manifest.contradiction() {
            throw ParsingError.invalid(what: "the manifest (\(contradiction))")
        }
        guard manifest.chunkByteCount == chunkByteCount else {
            throw ParsingError.invalid(what: "a chunk of \(manifest.chunkByteCount) bytes in this repository")
        }
        var position = 4 + jsonByteCount
        var regions: [Snapshot.RegionPieces] = []
        regions.reserveCapacity(manifest.regions.count)
        for region in manifest.regions {
            let count = Snapshot.pieceCount(region, chunkByteCount)
            // A count beyond the remaining bytes is invalid.
            guard count <= UInt64(payload.count - position) / 64 else {
                throw ParsingError.invalid(what: "the number of its list pieces")
            }
            func ids() throws -> [ContentHash] {
                var ids: [ContentHash] = []
                ids.reserveCapacity(Int(count))
                for _ in 0..<count {
                    guard let id = ContentHash(bytes: payload[position..<position + ContentHash.byteCount]) else {
                        throw ParsingError.invalid(what: "an id")
                    }
                    position += ContentHash.byteCount
                    ids.append(id)
                }
                return ids
            }
            var pieces = Snapshot.RegionPieces()
            pieces.lists = try ids()
            pieces.maps = try ids()
            regions.append(pieces)
        }
        guard position == payload.count else { throw ParsingError.invalid(what: "the length of its lists") }
        return Snapshot(
            info: SnapshotInfo(
                id: id, host: facts.host, disk: facts.disk, started: manifest.started, ended: facts.lateFacts.ended,
                usedByteCount: manifest.usedByteCount, addedByteCount: facts.statistics.storedByteCount,
                tags: facts.tags),
            manifest: manifest, lateFacts: facts.lateFacts, statistics: facts.statistics, regions: regions)
    }
}
