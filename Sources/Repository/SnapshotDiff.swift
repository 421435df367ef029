// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel

/// The differences between two snapshots, by partition. Counted in chunks: one changed byte changes its chunk.
package struct SnapshotDiff: Equatable, Sendable {
    /// The earlier snapshot, or the one named first.
    package var first: SnapshotInfo
    /// The other snapshot.
    package var second: SnapshotInfo
    /// Their partitions and gaps.
    package var regions: [Region]

    /// A partition or a gap of either.
    package struct Region: Equatable, Sendable {
        /// The number of the partition; `nil` for a gap or a whole disk.
        package var partition: Int?
        /// Its name in the table, or its filesystem's label: the name a user may know.
        package var label: String
        /// Its range in the first snapshot; `nil` if absent there.
        package var firstRange: ByteRange?
        /// Its range in the second snapshot; `nil` if absent there.
        package var secondRange: ByteRange?
        /// Bytes in differing chunks with data in either snapshot.
        package var changedByteCount: UInt64 = 0
        /// The part of `changedByteCount` in chunks that were unused in the first.
        package var addedByteCount: UInt64 = 0
        /// The part of `changedByteCount` in chunks that are unused in the second.
        package var removedByteCount: UInt64 = 0
        /// The bytes in use in the first.
        package var firstUsedByteCount: UInt64 = 0
        /// The bytes in use in the second.
        package var secondUsedByteCount: UInt64 = 0
    }

    /// The sum over all regions.
    package var changedByteCount: UInt64 { regions.reduce(0) { $0 + $1.changedByteCount } }
}

extension Repository {
    /// Compares two snapshots of this repository. Equal lists are not read.
    package func diff(_ first: ContentHash, _ second: ContentHash) throws(ImageError) -> SnapshotDiff {
        try diff(try snapshot(first), try snapshot(second))
    }

    /// Compares two snapshots of this repository.
    package func diff(_ first: Snapshot, _ second: Snapshot) throws(ImageError) -> SnapshotDiff {
        let differ = try SnapshotDiffer(self, first, second)
        return try differ.run()
    }
}

/// Compares two snapshots.
final class SnapshotDiffer {
    private let repository: Repository
    private let blobs: BlobSource
    private let sides: [Snapshot]

    init(_ repository: Repository, _ first: Snapshot, _ second: Snapshot) throws(ImageError) {
        self.repository = repository
        blobs = try BlobSource(repository)
        sides = [first, second]
    }

    func run() throws(ImageError) -> SnapshotDiff {
        var regions: [SnapshotDiff.Region] = []
        for (first, second) in pairs() {
            let known = second.map { ($0, sides[1]) } ?? first.map { ($0, sides[0]) }
            guard let (index, side) = known else { continue }
            let region = side.manifest.regions[index]
            var result = SnapshotDiff.Region(
                partition: region.partition, label: Self.label(region, side),
                firstRange: first.map { sides[0].manifest.regions[$0].range },
                secondRange: second.map { sides[1].manifest.regions[$0].range },
                firstUsedByteCount: first.map { sides[0].manifest.regions[$0].usedByteCount } ?? 0,
                secondUsedByteCount: second.map { sides[1].manifest.regions[$0].usedByteCount } ?? 0)
            try compare(first, second, &result)
            regions.append(result)
        }
        return SnapshotDiff(first: sides[0].info, second: sides[1].info, regions: regions)
    }

    private static func label(_ region: Manifest.Region, _ side: Snapshot) -> String {
        guard let number = region.partition else {
            return region.kind == .disk ? "the whole disk" : "outside every partition"
        }
        let name = side.manifest.table.partitions.first { $0.number == number }?.name ?? ""
        return [name, region.filesystem?.kindName ?? ""].filter { !$0.isEmpty }.joined(separator: ", ")
    }

    /// Pairs of corresponding regions: partitions by GUID, else by number; other regions by position.
    private func pairs() -> [(Int?, Int?)] {
        func partition(_ side: Int, _ index: Int) -> Partition? {
            let number = sides[side].manifest.regions[index].partition
            return sides[side].manifest.table.partitions.first { $0.number == number }
        }
        var free = Set(sides[0].manifest.regions.indices)
        var partner: [Int: Int] = [:]
        func match(_ isSame: (Int, Int) -> Bool) {
            for second in sides[1].manifest.regions.indices where partner[second] == nil {
                if let first = free.sorted().first(where: { isSame($0, second) }) {
                    partner[second] = first
                    free.remove(first)
                }
            }
        }
        match { first, second in
            guard let guid = partition(0, first)?.guid else { return false }
            return guid != .zero && partition(1, second)?.guid == guid
        }
        match { first, second in
            guard let number = self.sides[0].manifest.regions[first].partition else { return false }
            return self.sides[1].manifest.regions[second].partition == number
        }
        match { first, second in
            let (a, b) = (self.sides[0].manifest.regions[first], self.sides[1].manifest.regions[second])
            return a.partition == nil && b.partition == nil && a.range.lowerBound == b.range.lowerBound
        }
        let result: [(Int?, Int?)] = sides[1].manifest.regions.indices.map { (partner[$0], $0) }
        return result + free.sorted().map { ($0, nil) }
    }

    private func compare(_ first: Int?, _ second: Int?, _ result: inout SnapshotDiff.Region) throws(ImageError) {
        let chunk = UInt64(repository.configuration.chunkByteCount)
        let regions = [
            first.map { (sides[0].manifest.regions[$0], sides[0].regions[$0]) },
            second.map { (sides[1].manifest.regions[$0], sides[1].regions[$0]) },
        ]
        let pieceCount = regions.map { $0?.1.lists.count ?? 0 }.max() ?? 0
        for piece in 0..<pieceCount {
            var spans: [ByteRange] = []
            var ids: [ContentHash?] = []
            for region in regions {
                guard let (region, pieces) = region, piece < pieces.lists.count else {
                    spans.append(0..<0)
                    ids.append(nil)
                    continue
                }
                spans.append(Snapshot.span(ofPiece: piece, region, Int(chunk)))
                ids.append(pieces.lists[piece])
            }
            if spans[0] == spans[1], ids[0] == ids[1] { continue }
            let a = try chunks(0, regions[0]?.0, piece)
            let b = try chunks(1, regions[1]?.0, piece)
            for index in 0..<max(a.count, b.count) {
                let left = index < a.count ? a[index] : nil
                let right = index < b.count ? b[index] : nil
                let start = UInt64(piece * RepositoryFormat.pieceChunkCount + index) * chunk
                func length(_ side: Int) -> UInt64 {
                    guard let end = regions[side]?.0.range.byteCount, end > start else { return 0 }
                    return min(chunk, end - start)
                }
                let byteCount = max(length(0), length(1))
                let isLeftUsed = left.map { $0 != .unused } ?? false
                let isRightUsed = right.map { $0 != .unused } ?? false
                // Zeros that become used or unused are no change of contents.
                guard left?.isData ?? false || right?.isData ?? false, left != right || length(0) != length(1)
                else { continue }
                result.changedByteCount += byteCount
                if !isLeftUsed { result.addedByteCount += byteCount }
                if !isRightUsed { result.removedByteCount += byteCount }
            }
        }
    }

    /// The content of one chunk of a grid.
    private enum Chunk: Equatable {
        case data(ContentHash)
        case zero
        case unused
        var isData: Bool { if case .data = self { true } else { false } }
    }

    /// The chunks of a piece; empty if the region has no such piece.
    private func chunks(_ side: Int, _ region: Manifest.Region?, _ piece: Int) throws(ImageError) -> [Chunk] {
        guard let region, let index = sides[side].manifest.regions.firstIndex(of: region),
            piece < sides[side].regions[index].lists.count
        else { return [] }
        let id = sides[side].regions[index].lists[piece]
        do {
            let list = try ListPiece(
                try blobs.content(id, .list, limit: RepositoryFormat.largestPiece),
                chunkCount: Snapshot.chunkCount(ofPiece: piece, region, sides[side].manifest.chunkByteCount))
            return list.entries.flatMap { entry in
                switch entry {
                case .data(let id): [Chunk.data(id)]
                // The parser has checked that a piece has at most 1024 chunks.
                case .run(let kind, let count):
                    [Chunk](repeating: kind == .zero ? .zero : .unused, count: Int(count))
                }
            }
        } catch {
            if let error = error as? ImageError, case .system = error { throw error }
            throw .damaged(
                name: repository.name(of: sides[side].info.id), what: "the list of chunks: \(error)", fileOffset: 0,
                disk: Snapshot.span(ofPiece: piece, region, sides[side].manifest.chunkByteCount).shifted(
                    up: region.range.lowerBound), partition: region.partition)
        }
    }
}
