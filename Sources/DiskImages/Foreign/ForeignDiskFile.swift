// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A foreign disk in a sparse scratch file, with random access.
package final class ForeignDiskFile: DiskFile {
    package let file: FileBytes
    package let unreadable: AllocationMap
    package let hasUncheckedParts: Bool
    private let geometry: DiskGeometry
    private let scratch: DiskScratch
    private static let pieceByteCount: UInt64 = 1 << 20

    /// Reads every stream once, from its start to its end, and checks it.
    /// - Parameters:
    ///   - unreadable: the places of parts without an image: reading them fails.
    ///   - folder: holds the scratch file.
    ///   - progress: receives the number of stored bytes that were read.
    /// - Returns: `nil` if the folder has too little room.
    package init?(
        _ contents: ForeignContents, unreadable: AllocationMap, in folder: FilePath, memoryReserve: UInt64,
        progress: (UInt64) -> Void
    ) throws(ImageError) {
        guard let scratch = try? DiskScratch(in: folder, memoryReserve: memoryReserve),
            let first = contents.disk.files.first
        else { return nil }
        file = try FileBytes(first)
        self.unreadable = unreadable
        hasUncheckedParts = !contents.unchecked.isEmpty
        geometry = contents.disk.geometry
        self.scratch = scratch
        for place in contents.places {
            if case .bytes(let bytes) = place.source, !scratch.write(bytes, at: place.range.lowerBound) { return nil }
        }
        var done: UInt64 = 0
        for (index, volume) in contents.volumes.sorted(by: { $0.key < $1.key }) {
            let stream = try volume.open()
            let part = contents.disk.parts[index]
            for range in stream.used.ranges {
                guard try Self.copy(range, of: stream, part, to: scratch, progress: { progress(done + $0) }) else {
                    return nil
                }
            }
            try stream.finish()
            done += volume.storedByteCount
        }
        do throws(SystemCallError) { try scratch.finish(geometry.byteCount) } catch { throw .system(error) }
    }

    private static func copy(
        _ range: ByteRange, of stream: any VolumeStream, _ part: ForeignPart, to scratch: DiskScratch,
        progress: (UInt64) -> Void
    ) throws(ImageError) -> Bool {
        var position = range.lowerBound
        while position < range.upperBound {
            let count = min(range.upperBound - position, pieceByteCount)
            var bytes = [UInt8](repeating: 0, count: Int(count))
            let read = unsafe bytes.withUnsafeMutableBytes { bytes in
                Result { () throws(ImageError) in unsafe try stream.read(into: bytes, at: position) }
            }
            try read.get()
            var start = 0
            for place in part.places(of: position..<position + count) {
                let end = start + Int(place.byteCount)
                guard
                    scratch.write(
                        start == 0 && end == bytes.count ? bytes : Array(bytes[start..<end]), at: place.lowerBound)
                else { return false }
                start = end
            }
            position += count
            progress(stream.content.position)
        }
        return true
    }

    package var byteCount: UInt64 { geometry.byteCount }
    package var name: String { file.name }
    package var isRandomAccess: Bool { true }
    package var statedSectorSize: Int? { geometry.logicalSectorSize }
    package var descriptor: Int32? { scratch.file.raw.rawValue }

    /// Missing parts are errors: zeros there would pass for content.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failure(_ errorNumber: Int32, _ reason: String) -> BlockIOError {
            BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: reason)
        }
        let range = try checkedRange(at: offset, count: UInt64(buffer.count))
        guard unreadable.ranges(in: range).isEmpty else {
            throw failure(Errno.ioError.rawValue, "a part of the disk has no image")
        }
        do throws(SystemCallError) { unsafe try scratch.read(into: buffer, at: offset) } catch {
            throw failure(error.errno.rawValue, "\(error)")
        }
    }

    /// The streams were read to their ends, with their checksums, before the scratch was used.
    package func confirmEnd() {}
}
