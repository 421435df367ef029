// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// A range of a foreign disk, and the source of its bytes.
struct ForeignPlace: Sendable {
    enum Source: Sendable {
        case bytes([UInt8])
        /// A part's stream, from this offset of its volume on.
        case volume(part: Int, offset: UInt64)
        case zeros
        case missing(part: Int)
    }

    var range: ByteRange
    var source: Source

    /// All places of a disk, ascending and disjoint.
    /// - Throws: `ImageError.foreign` if two overlap, or one is outside of the disk.
    static func all(_ disk: ForeignDisk) throws(ImageError) -> [ForeignPlace] {
        var places: [ForeignPlace] = []
        for known in disk.fixed where !known.bytes.isEmpty {
            guard let range = ByteRange(offset: known.offset, byteCount: UInt64(known.bytes.count)) else {
                throw .foreign(name: disk.name, why: "it has bytes behind the end of its disk")
            }
            places.append(ForeignPlace(range: range, source: .bytes(known.bytes)))
        }
        for (index, part) in disk.parts.enumerated() { places += try of(part, index, disk.name) }
        places.sort { $0.range.lowerBound < $1.range.lowerBound }
        var position: UInt64 = 0
        for place in places {
            guard place.range.lowerBound >= position else {
                throw .foreign(
                    name: disk.name, why: "two of its parts overlap at byte \(place.range.lowerBound) of the disk")
            }
            position = place.range.upperBound
        }
        guard position <= disk.geometry.byteCount else {
            throw .foreign(
                name: disk.name,
                why: "its parts reach to byte \(position) of a disk of \(disk.geometry.byteCount) bytes")
        }
        return places
    }

    private static func of(_ part: ForeignPart, _ index: Int, _ name: String) throws(ImageError) -> [ForeignPlace] {
        if case .swap(let uuid, let label) = part.content {
            guard let first = part.segments.first else { return [] }
            let header = SwapHeader.bytes(byteCount: part.byteCount, uuid: uuid, label: label)
            guard UInt64(header.count) <= first.byteCount, !header.isEmpty else { return [] }
            return [
                ForeignPlace(range: first.lowerBound..<first.lowerBound + UInt64(header.count), source: .bytes(header))
            ]
        }
        var places: [ForeignPlace] = []
        var offset: UInt64 = 0
        for segment in part.segments where !segment.isEmpty {
            let source: Source =
                switch part.content {
                case .stream: .volume(part: index, offset: offset)
                case .zeros: .zeros
                case .missing, .swap: .missing(part: index)
                }
            places.append(ForeignPlace(range: segment, source: source))
            do throws(ParsingError) { offset = try offset.adding(segment.byteCount, "the volume") } catch {
                throw .foreign(name: name, why: "\(part.label): \(error)")
            }
        }
        return places
    }
}

extension ForeignPart {
    /// The room for its content, in bytes.
    var byteCount: UInt64 { segments.reduce(0) { $0.addingReportingOverflow($1.byteCount).partialValue } }

    /// Whether the volume's bytes have the order of the disk's.
    var isAscending: Bool { zip(segments, segments.dropFirst()).allSatisfy { $0.lowerBound < $1.lowerBound } }

    /// The ranges of the disk that hold a range of the volume.
    func places(of range: ByteRange) -> [ByteRange] {
        var places: [ByteRange] = []
        var start: UInt64 = 0
        for segment in segments {
            let inside = range.clamped(to: start..<start + segment.byteCount)
            if !inside.isEmpty {
                let from = segment.lowerBound + (inside.lowerBound - start)
                places.append(from..<from + inside.byteCount)
            }
            start += segment.byteCount
        }
        return places
    }
}

/// The header of a new swap area, as mkswap(8) writes it for pages of 4096 bytes (include/linux/swap.h, `swap_header`).
enum SwapHeader {
    private static let pageByteCount = 4096
    /// The kernel's least number of pages.
    private static let leastPages: UInt64 = 10

    /// The first page; empty if the area is too short for swap.
    static func bytes(byteCount: UInt64, uuid: GUID?, label: String) -> [UInt8] {
        let pages = byteCount / UInt64(pageByteCount)
        guard pages >= leastPages else { return [] }
        var page = [UInt8](repeating: 0, count: pageByteCount)
        page.setLittleEndian(UInt32(1), at: 1024)
        page.setLittleEndian(UInt32(clamping: pages - 1), at: 1028)
        page.replaceSubrange(1036..<1052, with: (uuid ?? .random()).textOrderBytes)
        let name = Array(label.utf8.prefix(16))
        page.replaceSubrange(1052..<1052 + name.count, with: name)
        page.replaceSubrange(pageByteCount - 10..<pageByteCount, with: Array("SWAPSPACE2".utf8))
        return page
    }
}
