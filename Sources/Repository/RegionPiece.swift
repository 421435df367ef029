// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel

/// A piece of a region's chunk list: up to 1024 chunks of its grid, in order. Equal pieces are stored once, so the
/// lists of a disk with few changes take little space.
struct ListPiece: Equatable, Sendable {
    /// One chunk of data, or a run of chunks without.
    enum Entry: Equatable, Sendable {
        case data(ContentHash)
        case run(RangeKind, count: UInt64)
    }
    private(set) var entries: [Entry] = []
    /// The number of grid chunks described.
    private(set) var chunkCount: UInt64 = 0

    /// An empty piece.
    init() {}

    mutating func append(_ id: ContentHash) {
        entries.append(.data(id))
        chunkCount += 1
    }

    /// Appends a run; a run that continues the previous one is merged into it, so that equal lists have equal bytes.
    mutating func appendRun(_ kind: RangeKind, count: UInt64) {
        guard count > 0 else { return }
        if case .run(kind, let before) = entries.last {
            entries[entries.count - 1] = .run(kind, count: before + count)
        } else {
            entries.append(.run(kind, count: count))
        }
        chunkCount += count
    }

    /// The encoding: for each entry its kind in a byte; then the id, or the number of chunks as LEB128.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for entry in entries {
            switch entry {
            case .data(let id):
                bytes.append(RangeKind.data.rawValue)
                bytes += id.bytes
            case .run(let kind, let count):
                bytes.append(kind.rawValue)
                bytes.appendLEB128(count)
            }
        }
        return bytes
    }

    /// Decodes bytes, which must describe exactly `chunkCount` chunks.
    init(_ bytes: [UInt8], chunkCount expected: UInt64) throws(ParsingError) {
        var position = 0
        while position < bytes.count {
            guard let kind = RangeKind(rawValue: bytes[position]) else { throw .invalid(what: "the kind of a range") }
            position += 1
            if kind == .data {
                guard let id = ContentHash(bytes: try bytes.bytes(at: position, count: ContentHash.byteCount)) else {
                    throw .invalid(what: "an id")
                }
                position += ContentHash.byteCount
                append(id)
            } else {
                let count = try bytes.leb128(at: &position)
                guard count > 0, count <= expected - chunkCount else { throw .invalid(what: "the length of a run") }
                appendRun(kind, count: count)
            }
            guard chunkCount <= expected else { throw .invalid(what: "a list that is too long") }
        }
        guard chunkCount == expected else { throw .invalid(what: "a list that is too short") }
    }
}

/// A piece of a region's allocation map: the ranges in use within the chunks of a list piece.
enum MapPiece {
    /// The number of ranges, then for each the gap before it and its length, all as LEB128.
    static func bytes(_ map: AllocationMap, span: ByteRange) -> [UInt8] {
        let ranges = map.ranges(in: span)
        var bytes: [UInt8] = []
        bytes.appendLEB128(UInt64(ranges.count))
        var position = span.lowerBound
        for range in ranges {
            bytes.appendLEB128(range.lowerBound - position)
            bytes.appendLEB128(range.byteCount)
            position = range.upperBound
        }
        return bytes
    }

    /// Adds the ranges of a piece to the map of its region.
    static func insert(_ bytes: [UInt8], span: ByteRange, into map: inout AllocationMap) throws(ParsingError) {
        var position = 0
        let count = try bytes.leb128(at: &position)
        // Every range takes at least two bytes: a larger count is invalid.
        guard count <= UInt64(bytes.count - position) / 2 else { throw .invalid(what: "a map's number of ranges") }
        var end = span.lowerBound
        for _ in 0..<count {
            let start = try end.adding(try bytes.leb128(at: &position), "a map's range")
            end = try start.adding(try bytes.leb128(at: &position), "a map's range")
            guard end <= span.upperBound, start < end else { throw .invalid(what: "a map's range") }
            map.insert(start..<end)
        }
        guard position == bytes.count else { throw .invalid(what: "the length of a map") }
    }
}

extension [UInt8] {
    /// Appends a number as unsigned LEB128.
    mutating func appendLEB128(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }

    /// The unsigned LEB128 of at most nine bytes at `position`, which moves behind it.
    func leb128(at position: inout Int) throws(ParsingError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 63, by: 7) {
            let byte: UInt8 = try littleEndian(at: position)
            position += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
        }
        throw .overflow(what: "a number")
    }
}
