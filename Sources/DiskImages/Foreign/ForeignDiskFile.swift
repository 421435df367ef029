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
    /// What was lost of parts whose streams are damaged.
    package let damaged: [ForeignContents.Missing]
    package let hasUncheckedParts: Bool
    private let geometry: DiskGeometry
    private let scratch: DiskScratch
    private static let pieceByteCount: UInt64 = 1 << 20

    /// Reads every stream once, from its start to its end, and checks it.
    /// - Parameters:
    ///   - unreadable: the places of parts without an image: reading them fails.
    ///   - salvages: whether what is behind damage in a stream counts as lost, too; all of a stream that shows damage
    ///     only at its end.
    ///   - folder: holds the scratch file.
    ///   - progress: receives the number of stored bytes that were read.
    /// - Returns: `nil` if the folder has too little room.
    package init?(
        _ contents: ForeignContents, unreadable: AllocationMap, salvages: Bool, in folder: FilePath,
        memoryReserve: UInt64, progress: (UInt64) -> Void
    ) throws(ImageError) {
        guard let scratch = try? DiskScratch(in: folder, memoryReserve: memoryReserve),
            let first = contents.disk.files.first
        else { return nil }
        file = try FileBytes(first)
        hasUncheckedParts = !contents.unchecked.isEmpty
        geometry = contents.disk.geometry
        self.scratch = scratch
        for place in contents.places {
            if case .bytes(let bytes) = place.source, !scratch.write(bytes, at: place.range.lowerBound) { return nil }
        }
        var done: UInt64 = 0
        var damaged: [ForeignContents.Missing] = []
        for (index, volume) in contents.volumes.sorted(by: { $0.key < $1.key }) {
            let part = contents.disk.parts[index]
            var position: UInt64 = 0
            do throws(ImageError) {
                guard
                    try Self.copy(
                        try volume.open(), part, to: scratch, &position, progress: { progress(done + $0) })
                else { return nil }
            } catch {
                guard salvages, Salvage.isDamage(error) else { throw error }
                let start = volume.verifiesBeforeUse ? position : 0
                let end = max(start, volume.used.ranges.last?.upperBound ?? 0)
                damaged.append(
                    ForeignContents.Missing(
                        label: part.label, reason: "\(error)", ranges: part.places(of: start..<end)))
            }
            done += volume.storedByteCount
        }
        self.damaged = damaged
        self.unreadable = AllocationMap(
            byteCount: unreadable.byteCount, unsorted: unreadable.ranges + damaged.flatMap(\.ranges))
        do throws(SystemCallError) { try scratch.finish(geometry.byteCount) } catch { throw .system(error) }
    }

    /// Copies a stream to its end.
    /// - Parameter position: the start of the piece that is copied, in bytes of the volume.
    /// - Returns: `false` if the scratch has too little room.
    private static func copy(
        _ stream: any VolumeStream, _ part: ForeignPart, to scratch: DiskScratch, _ position: inout UInt64,
        progress: (UInt64) -> Void
    ) throws(ImageError) -> Bool {
        for range in stream.used.ranges {
            var next = range.lowerBound
            while next < range.upperBound {
                position = next
                let count = min(range.upperBound - position, pieceByteCount)
                var bytes = [UInt8](repeating: 0, count: Int(count))
                let offset = position
                let read = unsafe bytes.withUnsafeMutableBytes { bytes in
                    Result { () throws(ImageError) in unsafe try stream.read(into: bytes, at: offset) }
                }
                try read.get()
                guard write(bytes, at: position, of: part, to: scratch) else { return false }
                next += count
                progress(stream.content.position)
            }
        }
        try stream.finish()
        return true
    }

    private static func write(
        _ bytes: [UInt8], at position: UInt64, of part: ForeignPart, to scratch: DiskScratch
    ) -> Bool {
        var start = 0
        for place in part.places(of: position..<position + UInt64(bytes.count)) {
            let end = start + Int(place.byteCount)
            guard
                scratch.write(
                    start == 0 && end == bytes.count ? bytes : Array(bytes[start..<end]), at: place.lowerBound)
            else { return false }
            start = end
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
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else {
            throw failure(0, "that is past its end at byte \(byteCount)")
        }
        guard unreadable.ranges(in: offset..<offset + UInt64(buffer.count)).isEmpty else {
            throw failure(Errno.ioError.rawValue, "a part of the disk has no image, or a damaged one")
        }
        do throws(SystemCallError) { unsafe try scratch.read(into: buffer, at: offset) } catch {
            throw failure(error.errno.rawValue, "\(error)")
        }
    }

    /// The streams were read to their ends, with their checksums, before the scratch was used.
    package func confirmEnd() {}
}
