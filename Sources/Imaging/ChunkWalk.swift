// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// Iterates over the chunks of all regions, by offset on the disk.
struct ChunkWalk {
    /// A chunk, or a run of unused chunks.
    struct Step {
        enum Content {
            case unused
            /// The bytes in use, relative to the chunk's start.
            case used([Range<Int>])
        }
        var region: Int
        /// The range on the disk.
        var range: ByteRange
        var content: Content
    }

    private let header: ImageHeader
    private let chunk: UInt64
    private var region = 0
    private var position: UInt64 = 0
    /// The number of steps so far.
    private(set) var count = 0

    init(_ header: ImageHeader) {
        self.header = header
        chunk = UInt64(header.manifest.chunkByteCount)
        position = header.manifest.regions.first?.range.lowerBound ?? 0
    }

    /// The next step; `nil` at the end of the disk.
    mutating func next() -> Step? {
        let regions = header.manifest.regions
        while region < regions.count, position >= regions[region].range.upperBound {
            region += 1
            if region < regions.count { position = regions[region].range.lowerBound }
        }
        guard region < regions.count else { return nil }
        let whole = regions[region].range
        let map = header.maps[region]
        let start = position - whole.lowerBound
        let range = position..<min(position + chunk, whole.upperBound)
        let used = map.ranges(in: start..<start + range.byteCount)
        count += 1
        guard used.isEmpty else {
            position = range.upperBound
            return Step(
                region: region, range: range,
                content: .used(used.map { Int($0.lowerBound - start)..<Int($0.upperBound - start) }))
        }
        // Straight to the chunk with the next byte in use: a disk can have millions of unused chunks.
        let next = map.firstUsed(from: start).map { $0 - $0 % chunk } ?? whole.byteCount
        let run = position..<whole.lowerBound + next
        position = run.upperBound
        return Step(region: region, range: run, content: .unused)
    }
}
