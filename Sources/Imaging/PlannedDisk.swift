// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import NBD
import SystemPackage

/// A disk with random access to what a capture of it would hold: bytes not in use read as zeros.
package final class PlannedDisk: ServedDisk {
    package let header: ImageHeader
    package var byteCount: UInt64 { header.manifest.geometry.byteCount }
    package var logicalSectorSize: Int { header.manifest.geometry.logicalSectorSize }
    package var name: String { source.name }
    private let source: any BlockReader
    private let chunks: PlannedChunks
    /// A file with the bytes of the disk, whose holes are zeros; owned by `source`.
    private let sparse: FileDescriptor?

    /// - Parameter sparse: the descriptor of a file with the bytes of the disk; `nil` if there is none.
    package init(_ plan: CapturePlan, of source: any BlockReader, sparse: Int32? = nil) {
        header = plan.header
        self.source = source
        chunks = PlannedChunks(plan, of: source)
        self.sparse = sparse.map { FileDescriptor(rawValue: $0) }
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = try checked(offset, UInt64(buffer.count))
        let used = used(range).map { Int($0.lowerBound - offset)..<Int($0.upperBound - offset) }
        try chunks.read(used, at: offset, into: buffer)
    }

    /// Upper bound on the extents of one answer: the rest is asked for again.
    private static let mostExtents = 1024

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        _ = try checked(range.lowerBound, range.byteCount)
        var extents = ExtentList()
        var position = range.lowerBound
        for part in used(range) {
            extents.append(.unused, part.lowerBound - position)
            position = part.lowerBound
            while position < part.upperBound {
                guard extents.list.count < Self.mostExtents else { return extents.list }
                let hole = sparse.flatMap { Files.hole(in: $0, at: position, byteCount: byteCount) }
                let end = min(part.upperBound, hole?.end ?? part.upperBound)
                extents.append(hole?.isHole == true ? .zero : .data, end - position)
                position = end
            }
        }
        extents.append(.unused, range.upperBound - position)
        return extents.list
    }

    /// The parts of a range that are in use, or that a patch changes.
    private func used(_ range: ByteRange) -> [ByteRange] { header.used([range]) }

    private func checked(_ offset: UInt64, _ count: UInt64) throws(BlockIOError) -> ByteRange {
        guard let range = ByteRange(offset: offset, byteCount: count), range.upperBound <= byteCount else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: count, errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        return range
    }
}
