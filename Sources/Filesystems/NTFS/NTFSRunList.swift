// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The places of an attribute's clusters, according to its mapping pairs, part by part.
struct NTFSRunList {
    /// Clusters of an attribute that are also adjacent on the disk, or a hole.
    struct Run: Equatable {
        /// The first cluster of the attribute (VCN).
        let start: UInt64
        let count: UInt64
        /// The first cluster on the volume (LCN); `nil` for a hole.
        let place: UInt64?

        var end: UInt64 { start + count }
    }

    /// The limit of fragments, more than any real file has; 32 bytes each.
    private static let limit = 1 << 20

    private(set) var runs: [Run] = []
    /// The known length of the attribute in clusters.
    private(set) var end: UInt64 = 0

    init() {}

    /// A single part of an attribute.
    init(only part: NTFSAttribute.Clusters, clusterCount: UInt64) throws(ParsingError) {
        end = part.range.lowerBound
        try append(part, clusterCount: clusterCount)
    }

    /// Adds the next part of an attribute.
    /// - Throws: `ParsingError` if it does not follow the previous part, or leads outside of the volume.
    mutating func append(_ part: NTFSAttribute.Clusters, clusterCount: UInt64) throws(ParsingError) {
        guard part.range.lowerBound == end else { throw .invalid(what: "the order of the parts of an attribute") }
        let pairs = part.mappingPairs
        var offset = 0
        var place: Int64 = 0
        // A byte of two lengths, a number of clusters, and the distance to the previous run
        // (signed), until a zero byte.
        while true {
            let lengths = Int(try pairs.littleEndian(UInt8.self, at: offset))
            if lengths == 0 { break }
            let count = try Self.signed(pairs, at: offset + 1, count: lengths & 0xF)
            guard count > 0, runs.count < Self.limit else { throw .invalid(what: "the length of a run of clusters") }
            let next = try end.adding(UInt64(count), "an attribute")
            if lengths >> 4 == 0 {
                runs.append(Run(start: end, count: UInt64(count), place: nil))
            } else {
                let distance = try Self.signed(pairs, at: offset + 1 + lengths & 0xF, count: lengths >> 4)
                place = try place.adding(distance, "the place of a cluster")
                guard place >= 0, UInt64(place) < clusterCount, UInt64(count) <= clusterCount - UInt64(place) else {
                    throw .invalid(what: "the place of a run of clusters")
                }
                runs.append(Run(start: end, count: UInt64(count), place: UInt64(place)))
            }
            end = next
            offset += 1 + lengths & 0xF + lengths >> 4
        }
        guard end == part.range.upperBound else { throw .invalid(what: "the length of a part of an attribute") }
    }

    /// The run that contains a cluster of the attribute; `nil` past its end.
    func run(at cluster: UInt64) -> Run? {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].end > cluster { high = middle } else { low = middle + 1 }
        }
        return low < runs.count ? runs[low] : nil
    }

    private static func signed(_ bytes: [UInt8], at offset: Int, count: Int) throws(ParsingError) -> Int64 {
        guard (1...8).contains(count) else { throw .invalid(what: "the width of a mapping pair") }
        let field = try bytes.bytes(at: offset, count: count)
        var value: Int64 = field[count - 1] >= 0x80 ? -1 : 0
        for byte in field.reversed() { value = value << 8 | Int64(byte) }
        return value
    }
}
