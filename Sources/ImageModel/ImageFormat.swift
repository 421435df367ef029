// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import FoundationEssentials

/// The constants of the image file; ImageFormat.md is the specification.
package enum ImageFormat {
    /// The version this program writes. A reader refuses a larger major number.
    package static let version: (major: UInt16, minor: UInt16) = (1, 0)
    /// The magic number of the skippable frames that hold everything but data (RFC 8878 §3.1.2: 0x184D2A50 to …5F).
    package static let skippableMagic: UInt32 = 0x184D_2A50
    package static let headerTag = Array("RFIMGHDR".utf8)
    package static let footerTag = Array("RFIMGFTR".utf8)
    static let recordTag = Array("RFCR".utf8)
    package static let indexTag = Array("RFIX".utf8)
    package static let lateFactsTag = Array("RFLF".utf8)
    /// The payload of a record, in bytes.
    package static let recordByteCount = 64
    /// A record frame with its 8 bytes of frame header.
    package static let recordFrameByteCount = 8 + recordByteCount
    /// An index entry: a record's payload and the offset of its frame in the file.
    package static let indexEntryByteCount = recordByteCount + 8
    package static let indexEntriesPerFrame = 65_536
    /// The payload of the footer, in bytes.
    package static let footerByteCount = 128
    package static let largestManifest = 16 << 20
    static let largestMaps = 64 << 20
    /// The longest run: the length of its frames must fit into 32 bits.
    package static let longestRun: UInt64 = 1 << 46

    /// A skippable frame.
    package static func frame(_ payload: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payload.count + 8)
        bytes.appendLittleEndian(skippableMagic)
        bytes.appendLittleEndian(UInt32(payload.count))
        return bytes + payload
    }
}

/// The kind of a disk range in an image.
package enum RangeKind: UInt8, Sendable, Codable {
    /// Read bytes; one chunk.
    case data = 0
    /// Read bytes, of which all in use are zero; one or more chunks.
    case zero = 1
    /// Not in use; one or more chunks.
    case unused = 2
}

/// The record before each chunk, or run of chunks without data, of an image.
package struct ChunkRecord: Equatable, Sendable {
    /// The kind.
    package var kind: RangeKind
    /// Its region, as an index into the manifest's list.
    package var region: Int
    /// Its range on the captured disk, in bytes.
    package var range: ByteRange
    /// The length of the zstd frames that follow the record, in bytes.
    package var storedByteCount: Int
    /// The hash of the content, with unused bytes zeroed; `nil` unless the kind is data.
    package var hash: ContentHash?

    /// Describes a chunk or a run.
    package init(kind: RangeKind, region: Int, range: ByteRange, storedByteCount: Int, hash: ContentHash?) {
        self.kind = kind
        self.region = region
        self.range = range
        self.storedByteCount = storedByteCount
        self.hash = hash
    }

    /// Where the start of the range is in the payload.
    package static let rangeOffset = 8

    /// The 64 bytes of the payload.
    package var payload: [UInt8] {
        var bytes = ImageFormat.recordTag
        bytes.reserveCapacity(ImageFormat.recordByteCount)
        bytes.append(kind.rawValue)
        bytes.append(0)
        bytes.appendLittleEndian(UInt16(truncatingIfNeeded: region))
        bytes.appendLittleEndian(range.lowerBound)
        bytes.appendLittleEndian(range.byteCount)
        bytes.appendLittleEndian(UInt32(truncatingIfNeeded: storedByteCount))
        let hashBytes = hash?.bytes ?? [UInt8](repeating: 0, count: ContentHash.byteCount)
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes + hashBytes))
        return bytes + hashBytes
    }

    /// The whole skippable frame.
    package var frame: [UInt8] { ImageFormat.frame(payload) }

    /// Decodes a payload.
    /// - Throws: `ParsingError` if it is not a record, or damaged.
    package init(payload bytes: [UInt8]) throws(ParsingError) {
        guard bytes.count == ImageFormat.recordByteCount, Array(bytes[0..<4]) == ImageFormat.recordTag else {
            throw .invalid(what: "a record's mark")
        }
        let stored: UInt32 = try bytes.littleEndian(at: 28)
        guard stored == CRC32.iso.checksum(bytes[0..<28] + bytes[32..<64]) else {
            throw .invalid(what: "a record's checksum")
        }
        guard let kind = RangeKind(rawValue: bytes[4]) else { throw .invalid(what: "a record's kind") }
        let offset: UInt64 = try bytes.littleEndian(at: Self.rangeOffset)
        let byteCount: UInt64 = try bytes.littleEndian(at: 16)
        guard let range = ByteRange(offset: offset, byteCount: byteCount), !range.isEmpty else {
            throw .invalid(what: "a record's range")
        }
        self.kind = kind
        region = Int(try bytes.littleEndian(UInt16.self, at: 6))
        self.range = range
        storedByteCount = Int(try bytes.littleEndian(UInt32.self, at: 24))
        hash = kind == .data ? ContentHash(bytes: bytes[32..<64]) : nil
    }
}

/// The header of an image: its manifest and the exact maps of its regions.
package struct ImageHeader: Equatable, Sendable {
    /// The description of the disk.
    package var manifest: Manifest
    /// For each region, the bytes in use, relative to the region's start.
    package var maps: [AllocationMap]

    /// From parts.
    package init(manifest: Manifest, maps: [AllocationMap]) {
        self.manifest = manifest
        self.maps = maps
    }

    /// The payload of the header's frame.
    package func payload() throws(CodecError) -> [UInt8] {
        let json: [UInt8]
        do { json = try JSONText.encode(manifest) } catch {
            throw CodecError("could not encode the manifest: \(error)")
        }
        let rawMaps = Self.encode(maps)
        guard json.count <= ImageFormat.largestManifest, rawMaps.count <= ImageFormat.largestMaps else {
            throw CodecError("the disk has more partitions or fragments than an image can describe")
        }
        let storedMaps = try Zstd.compress(rawMaps)
        var bytes = ImageFormat.headerTag
        bytes.appendLittleEndian(ImageFormat.version.major)
        bytes.appendLittleEndian(ImageFormat.version.minor)
        bytes.appendLittleEndian(UInt32(json.count))
        bytes.appendLittleEndian(UInt32(storedMaps.count))
        bytes.appendLittleEndian(UInt32(rawMaps.count))
        bytes += json
        bytes += storedMaps
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }

    /// The parts of disk ranges that are in use by the maps, ascending.
    package func used(_ ranges: [ByteRange]) -> [ByteRange] {
        manifest.regions.indices.flatMap { index in
            let region = manifest.regions[index].range
            let parts = ranges.map { $0.clamped(to: region) }.filter { !$0.isEmpty }.map {
                $0.lowerBound - region.lowerBound..<$0.upperBound - region.lowerBound
            }
            return AllocationMap(byteCount: region.byteCount, unsorted: parts).ranges.flatMap {
                maps[index].ranges(in: $0)
            }.compactMap { $0.shifted(up: region.lowerBound) }
        }
    }

    /// The number of bytes in a record's range that are in use by the map.
    package func usedByteCount(of record: ChunkRecord) -> UInt64 {
        guard record.region < maps.count, record.region < manifest.regions.count,
            manifest.regions[record.region].range.covers(record.range)
        else { return 0 }
        let start = manifest.regions[record.region].range.lowerBound
        return maps[record.region].ranges(in: record.range.lowerBound - start..<record.range.upperBound - start)
            .reduce(0) { $0 + $1.byteCount }
    }

    /// The longest payload that a header can have.
    package static let largestPayload = 28 + ImageFormat.largestManifest + ImageFormat.largestMaps * 2

    /// Decodes a payload.
    /// - Parameter codec: the codec of its data.
    package init(payload bytes: [UInt8], name: String, codec: String = "zstd") throws(ImageError) {
        do {
            guard bytes.count >= 28, Array(bytes[0..<8]) == ImageFormat.headerTag else {
                throw ImageError.foreign(name: name, why: "it does not start with an image header")
            }
            let major: UInt16 = try bytes.littleEndian(at: 8)
            guard major <= ImageFormat.version.major else {
                throw ImageError.unsupported(
                    name: name,
                    what: "its format is version \(major), this program reads up to \(ImageFormat.version.major)")
            }
            guard try bytes.littleEndian(UInt32.self, at: bytes.count - 4) == CRC32.iso.checksum(bytes.dropLast(4))
            else {
                throw ParsingError.invalid(what: "the header's checksum")
            }
            let jsonCount = Int(try bytes.littleEndian(UInt32.self, at: 12))
            let storedCount = Int(try bytes.littleEndian(UInt32.self, at: 16))
            let rawCount = Int(try bytes.littleEndian(UInt32.self, at: 20))
            guard jsonCount <= ImageFormat.largestManifest, rawCount <= ImageFormat.largestMaps,
                24 + jsonCount + storedCount + 4 == bytes.count
            else { throw ParsingError.invalid(what: "the header's lengths") }
            let json = try bytes.bytes(at: 24, count: jsonCount)
            // Features first: without them, the rest may not be decodable.
            struct Features: Decodable { var incompatibleFeatures: [String] }
            let features = try JSONText.decode(Features.self, json).incompatibleFeatures
            if let unknown = features.first(where: { !Manifest.knownIncompatibleFeatures.contains($0) }) {
                throw ImageError.unsupported(name: name, what: "it uses the feature \"\(unknown)\"")
            }
            manifest = try JSONText.decode(Manifest.self, json)
            if manifest.codec == "xz", codec != "xz" {
                throw ImageError.foreign(
                    name: name, why: "it is the metadata of an .img.xz; that file, beside it, is the image")
            }
            if let contradiction = manifest.contradiction(codec: codec) {
                throw ParsingError.invalid(what: "the manifest (\(contradiction))")
            }
            let rawMaps = try Zstd.decompress(try bytes.bytes(at: 24 + jsonCount, count: storedCount), limit: rawCount)
            maps = try Self.decode(rawMaps, manifest.regions)
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(name: name, what: "the header: \(error)", fileOffset: 0, disk: nil, partition: nil)
        }
    }

    /// For each map: the number of ranges, then for each the gap before it and its length, all as LEB128.
    private static func encode(_ maps: [AllocationMap]) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ value: UInt64) {
            var rest = value
            while rest >= 0x80 {
                bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
        for map in maps {
            append(UInt64(map.ranges.count))
            var position: UInt64 = 0
            for range in map.ranges {
                append(range.lowerBound - position)
                append(range.byteCount)
                position = range.upperBound
            }
        }
        return bytes
    }

    private static func decode(_ bytes: [UInt8], _ regions: [Manifest.Region]) throws(ParsingError) -> [AllocationMap] {
        var position = 0
        func next() throws(ParsingError) -> UInt64 {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 63, by: 7) {
                let byte: UInt8 = try bytes.littleEndian(at: position)
                position += 1
                value |= UInt64(byte & 0x7F) << shift
                if byte & 0x80 == 0 { return value }
            }
            throw .overflow(what: "a number of a map")
        }
        var maps: [AllocationMap] = []
        for region in regions {
            var map = AllocationMap(byteCount: region.range.byteCount)
            var end: UInt64 = 0
            let count = try next()
            // Every range takes at least two bytes: a larger count is invalid.
            guard count <= UInt64(bytes.count - position) / 2 else { throw .invalid(what: "a map's number of ranges") }
            for _ in 0..<count {
                let start = try end.adding(try next(), "a map's range")
                end = try start.adding(try next(), "a map's range")
                guard end <= map.byteCount, start < end else { throw .invalid(what: "a map's range") }
                map.insert(start..<end)
            }
            guard map.usedByteCount == region.usedByteCount else {
                throw .invalid(what: "a map's number of used bytes")
            }
            maps.append(map)
        }
        guard position == bytes.count else { throw .invalid(what: "the length of the maps") }
        return maps
    }
}

/// The footer of an image: it locates the index, and its presence shows that the image is complete.
package struct ImageFooter: Equatable, Sendable {
    /// The offset of the first index frame in the file.
    package var indexOffset: UInt64
    /// The number of records (and index entries).
    package var recordCount: UInt64
    /// The offset of the late facts' frame in the file.
    package var lateFactsOffset: UInt64
    /// The length of the whole file in bytes.
    package var fileByteCount: UInt64
    /// SHA-256 over the header's payload and all index entries: the image's id.
    package var imageID: ContentHash
    /// SHA-256 of the late facts' JSON.
    package var lateFactsHash: ContentHash

    /// From parts.
    package init(
        indexOffset: UInt64, recordCount: UInt64, lateFactsOffset: UInt64, fileByteCount: UInt64, imageID: ContentHash,
        lateFactsHash: ContentHash
    ) {
        self.indexOffset = indexOffset
        self.recordCount = recordCount
        self.lateFactsOffset = lateFactsOffset
        self.fileByteCount = fileByteCount
        self.imageID = imageID
        self.lateFactsHash = lateFactsHash
    }

    /// The 128 bytes of the payload.
    package var payload: [UInt8] {
        var bytes = ImageFormat.footerTag
        for number in [indexOffset, recordCount, lateFactsOffset, fileByteCount] { bytes.appendLittleEndian(number) }
        bytes += imageID.bytes
        bytes += lateFactsHash.bytes
        bytes += [UInt8](repeating: 0, count: ImageFormat.footerByteCount - 4 - bytes.count)
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }

    /// Decodes a payload.
    package init(payload bytes: [UInt8]) throws(ParsingError) {
        guard bytes.count == ImageFormat.footerByteCount, Array(bytes[0..<8]) == ImageFormat.footerTag else {
            throw .invalid(what: "the footer's mark")
        }
        guard try bytes.littleEndian(UInt32.self, at: 124) == CRC32.iso.checksum(bytes.dropLast(4)) else {
            throw .invalid(what: "the footer's checksum")
        }
        indexOffset = try bytes.littleEndian(at: 8)
        recordCount = try bytes.littleEndian(at: 16)
        lateFactsOffset = try bytes.littleEndian(at: 24)
        fileByteCount = try bytes.littleEndian(at: 32)
        guard let imageID = ContentHash(bytes: bytes[40..<72]), let lateFactsHash = ContentHash(bytes: bytes[72..<104])
        else {
            throw .invalid(what: "the footer's hashes")
        }
        self.imageID = imageID
        self.lateFactsHash = lateFactsHash
    }
}
