// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import NBD
import SystemPackage

/// A capture presented as the captured disk, with random access. Bytes not in use read as zeros; bytes that the capture
/// could not read, or that the image has lost, cannot be read.
package final class CaptureDisk: ServedDisk {
    package let byteCount: UInt64
    package let logicalSectorSize: Int
    package var name: String { index.name }
    private let index: any CaptureIndex
    private let header: ImageHeader
    private let cache: ChunkCache
    private let readAhead: ReadAhead
    /// The ranges that could not be read when the disk was captured.
    private let missing: AllocationMap

    /// - Parameter cacheByteCount: upper bound on decoded bytes in memory.
    package init(_ index: any CaptureIndex, cacheByteCount: Int = 64 << 20) {
        self.index = index
        header = index.header
        byteCount = header.manifest.geometry.byteCount
        logicalSectorSize = header.manifest.geometry.logicalSectorSize
        missing = AllocationMap(byteCount: byteCount, unsorted: index.ending.lateFacts.unreadable)
        cache = ChunkCache(index, byteCount: cacheByteCount)
        readAhead = ReadAhead(index, cache)
    }

    deinit { readAhead.end() }

    /// The first damage of the capture that a read has found.
    package var failure: ImageError? { cache.failure }
    /// The number of decoded chunks so far.
    var decodeCount: Int { cache.decodeCount }
    /// The decoded bytes in memory.
    var heldByteCount: Int { cache.heldByteCount }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        var done = 0
        while done < buffer.count {
            let position = offset + UInt64(done)
            let record: ChunkRecord
            do throws(ImageError) { record = try index.record(at: position) } catch {
                throw failure(position, buffer.count - done, error)
            }
            let end = min(offset + UInt64(buffer.count), record.range.upperBound)
            let count = Int(end - position)
            try read(
                record, position..<end, into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count]))
            done += count
        }
    }

    /// Reads a range of one record.
    private func read(
        _ record: ChunkRecord, _ range: ByteRange, into buffer: UnsafeMutableRawBufferPointer
    ) throws(BlockIOError) {
        if let hole = missing.ranges(in: range).first {
            throw failure(
                range.lowerBound, buffer.count, Errno.ioError.rawValue,
                "\(ByteText.exact(hole.byteCount)) at byte \(hole.lowerBound) could not be read when the disk was "
                    + "captured")
        }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        guard record.kind == .data else { return }
        let used = used(range, region: record.region)
        guard !used.isEmpty else { return }
        let content: [UInt8]
        do throws(ImageError) { content = try cache.content(at: record.range.lowerBound) } catch {
            throw failure(range.lowerBound, buffer.count, error)
        }
        readAhead.note(record.range)
        content.withUnsafeBytes { content in
            for part in used {
                let from = Int(part.lowerBound - record.range.lowerBound)
                let to = Int(part.lowerBound - range.lowerBound)
                UnsafeMutableRawBufferPointer(rebasing: buffer[to..<to + Int(part.byteCount)]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: content[from..<from + Int(part.byteCount)]))
            }
        }
    }

    /// The parts of a range of one region that its map has in use.
    private func used(_ range: ByteRange, region: Int) -> [ByteRange] {
        let start = header.manifest.regions[region].range.lowerBound
        return header.maps[region].ranges(in: range.lowerBound - start..<range.upperBound - start).compactMap {
            $0.shifted(up: start)
        }
    }

    /// Upper bounds on one answer: the rest is asked for again.
    private static let (mostExtents, mostRecords) = (1024, 4096)

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        try checkedRange(at: range.lowerBound, count: range.byteCount)
        var extents = ExtentList()
        var position = range.lowerBound
        var recordCount = 0
        while position < range.upperBound, extents.list.count < Self.mostExtents, recordCount < Self.mostRecords {
            let part: ByteRange
            do throws(ImageError) {
                let record = try index.record(at: position)
                part = record.range.clamped(to: position..<range.upperBound)
                append(record, part, to: &extents)
            } catch {
                guard Salvage.isDamage(error), let region = header.region(at: position) else {
                    throw failure(position, Int(clamping: range.upperBound - position), error)
                }
                // A part whose record is lost is never a hole: reading it fails.
                part = header.chunk(at: position, region: region).clamped(to: position..<range.upperBound)
                extents.append(.data, part.byteCount)
            }
            position = part.upperBound
            recordCount += 1
        }
        return extents.list
    }

    private func append(_ record: ChunkRecord, _ range: ByteRange, to extents: inout ExtentList) {
        // What could not be read is data, whatever the record says: reading it fails.
        var data = AllocationMap(byteCount: byteCount, unsorted: missing.ranges(in: range))
        if record.kind == .data { for part in used(range, region: record.region) { data.insert(part) } }
        let rest: DiskExtent.Kind = record.kind == .zero ? .zero : .unused
        var position = range.lowerBound
        for part in data.ranges {
            extents.append(rest, part.lowerBound - position)
            extents.append(.data, part.byteCount)
            position = part.upperBound
        }
        extents.append(rest, range.upperBound - position)
    }

    private func failure(_ offset: UInt64, _ byteCount: Int, _ error: ImageError) -> BlockIOError {
        let number = if case .system(let call) = error { call.errno } else { Errno.ioError }
        return failure(offset, byteCount, number.rawValue, "\(error)")
    }

    private func failure(_ offset: UInt64, _ byteCount: Int, _ number: Int32, _ reason: String) -> BlockIOError {
        BlockIOError(
            .read, name: name, offset: offset, byteCount: UInt64(byteCount), errorNumber: number, reason: reason)
    }
}

/// Extents in order; neighbours of one kind are one.
struct ExtentList {
    private(set) var list: [DiskExtent] = []

    mutating func append(_ kind: DiskExtent.Kind, _ byteCount: UInt64) {
        guard byteCount > 0 else { return }
        if list.last?.kind == kind {
            list[list.count - 1].byteCount += byteCount
        } else {
            list.append(DiskExtent(kind, byteCount: byteCount))
        }
    }
}
