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
    private let zeros: Zeros
    /// Ranges in use that cannot be read.
    private let missing: AllocationMap
    /// Ranges that are never zeros, whatever the source says: what is missing, and what a patch changes.
    private let opaque: AllocationMap

    /// What tells zeros from data without reading them.
    package enum Zeros {
        case unknown
        /// The holes of a file with the bytes of the disk. Its descriptor is owned by the disk that is read.
        case sparseFile(Int32)
        /// The extents of a disk with the same bytes.
        case extents(any ServedDisk)
    }

    /// - Parameter missing: ranges in use that cannot be read: zeros there would pass for content.
    package init(
        _ plan: CapturePlan, of source: any BlockReader, _ zeros: Zeros = .unknown, missing: AllocationMap? = nil
    ) {
        header = plan.header
        self.source = source
        chunks = PlannedChunks(plan, of: source)
        self.zeros = zeros
        let byteCount = plan.header.manifest.geometry.byteCount
        self.missing = missing ?? AllocationMap(byteCount: byteCount)
        let patched = plan.patches.compactMap { ByteRange(offset: $0, byteCount: UInt64($1.count)) }
        opaque = AllocationMap(byteCount: byteCount, unsorted: self.missing.ranges + patched)
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = try checkedRange(at: offset, count: UInt64(buffer.count))
        if let hole = missing.ranges(in: range).first {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: range.byteCount, errorNumber: Errno.ioError.rawValue,
                reason: "\(ByteText.exact(hole.byteCount)) at byte \(hole.lowerBound) are missing")
        }
        let used = used(range).map { Int($0.lowerBound - offset)..<Int($0.upperBound - offset) }
        try chunks.read(used, at: offset, into: buffer)
    }

    /// Upper bound on the extents of one answer: the rest is asked for again.
    private static let mostExtents = 1024

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        try checkedRange(at: range.lowerBound, count: range.byteCount)
        var extents = ExtentList()
        var position = range.lowerBound
        for part in used(range) {
            extents.append(.unused, part.lowerBound - position)
            position = part.lowerBound
            while position < part.upperBound {
                for extent in try runs(in: position..<part.upperBound) {
                    guard extents.list.count < Self.mostExtents else { return extents.list }
                    let byteCount = min(extent.byteCount, part.upperBound - position)
                    extents.append(extent.kind, byteCount)
                    position += byteCount
                }
            }
        }
        extents.append(.unused, range.upperBound - position)
        return extents.list
    }

    /// The first runs of a range in use; at least one, and none of them empty.
    private func runs(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        var range = range
        if let first = opaque.ranges(in: range).first {
            if first.lowerBound == range.lowerBound { return [DiskExtent(.data, byteCount: first.byteCount)] }
            range = range.lowerBound..<first.lowerBound
        }
        let whole = [DiskExtent(.data, byteCount: range.byteCount)]
        switch zeros {
        case .unknown: return whole
        case .sparseFile(let descriptor):
            guard
                let hole = Files.hole(
                    in: FileDescriptor(rawValue: descriptor), at: range.lowerBound, byteCount: byteCount),
                hole.end > range.lowerBound
            else { return whole }
            let count = min(range.upperBound, hole.end) - range.lowerBound
            return [DiskExtent(hole.isHole ? .zero : .data, byteCount: count)]
        case .extents(let disk):
            var runs = ExtentList()
            var rest = range.byteCount
            for extent in try disk.extents(in: range) {
                let count = min(rest, extent.byteCount)
                runs.append(extent.kind == .data ? .data : .zero, count)
                rest -= count
            }
            return runs.list.isEmpty ? whole : runs.list
        }
    }

    /// The parts of a range that are in use; patches are inside them.
    private func used(_ range: ByteRange) -> [ByteRange] { header.used([range]) }
}
