// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import Synchronization
import SystemPackage

/// A foreign disk as a reader of blocks. Its streams are read once if offsets ascend inside of each volume; reading
/// backwards decompresses a volume from its start.
package final class ForeignContents: BlockReader {
    /// A part without an image.
    package struct Missing: Sendable {
        package var label: String
        package var reason: String
        /// Its places on the disk.
        package var ranges: [ByteRange]

        package init(label: String, reason: String, ranges: [ByteRange]) {
            self.label = label
            self.reason = reason
            self.ranges = ranges
        }
    }

    private struct OpenVolume {
        var stream: any VolumeStream
        var position: UInt64 = 0
    }

    private struct State {
        var open: [Int: OpenVolume] = [:]
        /// Parts whose streams were read and checked to their ends.
        var finished: Set<Int> = []
        /// The stored bytes of streams that were read and closed.
        var closedByteCount: UInt64 = 0
        var failure: ImageError?
        /// Parts whose streams are damaged, and the offset of the read that found it: each read from there on fails at
        /// once, so that a salvage reads the other parts without decompressing this one again for each chunk.
        var broken: [Int: (offset: UInt64, error: ImageError)] = [:]
    }

    package let disk: ForeignDisk
    /// The bytes that the folder or file holds: all others were not in use, or are not in it.
    package let used: AllocationMap
    package let missing: [Missing]
    package let head: ForeignHead
    let places: [ForeignPlace]
    /// By the index of their part.
    let volumes: [Int: ForeignVolume]
    private let state = Mutex(State())

    /// Opens every stream for its map and its first bytes.
    /// - Parameters:
    ///   - salvages: whether a part whose start is damaged counts as missing.
    ///   - readsAhead: whether a part counts as missing, too, if damage is found only at the end of its stream, so that
    ///     none of its bytes are known to be right: such streams are read once more for that.
    package init(
        _ disk: ForeignDisk, _ cancellation: Cancellation, salvages: Bool = false, readsAhead: Bool = false
    ) throws(ImageError) {
        self.disk = disk
        places = try ForeignPlace.all(disk)
        let head = try ForeignHead(disk)
        self.head = head
        var volumes: [Int: ForeignVolume] = [:]
        var missing: [Missing] = []
        for (index, part) in disk.parts.enumerated() {
            switch part.content {
            case .stream(let stream, let payload):
                do throws(ImageError) {
                    let volume = try Self.volume(part, stream, payload, cancellation, head)
                    if readsAhead, !volume.verifiesBeforeUse { try volume.open().finish() }
                    volumes[index] = volume
                } catch {
                    guard salvages, Salvage.isDamage(error) else { throw error }
                    missing.append(Missing(label: part.label, reason: "\(error)", ranges: part.segments))
                }
            case .missing(let reason):
                missing.append(Missing(label: part.label, reason: reason, ranges: part.segments))
            case .zeros, .swap: break
            }
        }
        for place in places {
            if case .bytes(let bytes) = place.source { try head.write(bytes, at: place.range.lowerBound) }
        }
        self.volumes = volumes
        self.missing = missing
        used = Self.map(disk, places, volumes)
        head.complete(used)
    }

    private static func volume(
        _ part: ForeignPart, _ stream: PieceStream, _ payload: ForeignPayload, _ cancellation: Cancellation,
        _ head: ForeignHead
    ) throws(ImageError) -> ForeignVolume {
        try ForeignVolume(
            part.label, stream, payload, room: part.byteCount, cancellation
        ) { offset, bytes throws(ImageError) in
            var start = 0
            for place in part.places(of: offset..<offset + UInt64(bytes.count)) {
                try head.write(Array(bytes[start..<start + Int(place.byteCount)]), at: place.lowerBound)
                start += Int(place.byteCount)
            }
        }
    }

    private static func map(
        _ disk: ForeignDisk, _ places: [ForeignPlace], _ volumes: [Int: ForeignVolume]
    ) -> AllocationMap {
        var ranges: [ByteRange] = []
        for place in places {
            if case .volume(let part, let offset) = place.source, let volume = volumes[part] {
                // The volume is longer than the map where its room is.
                let window = offset..<min(offset + place.range.byteCount, max(offset, volume.used.byteCount))
                for range in volume.used.ranges(in: window) {
                    let start = place.range.lowerBound + (range.lowerBound - offset)
                    ranges.append(start..<start + range.byteCount)
                }
            } else {
                ranges.append(place.range)
            }
        }
        // Places ascend, and so do the ranges in each.
        return AllocationMap(byteCount: disk.geometry.byteCount, unsorted: ranges)
    }

    package var byteCount: UInt64 { disk.geometry.byteCount }
    package var logicalSectorSize: Int { disk.geometry.logicalSectorSize }
    package var name: String { disk.name }
    /// The error of the last failed read if a stream caused it.
    package var failure: ImageError? { state.withLock { $0.failure } }
    /// Whether the streams are read once by a read of the disk from its start to its end.
    package var isAscending: Bool { disk.parts.allSatisfy(\.isAscending) }
    /// The length of all streams in bytes.
    package var storedByteCount: UInt64 { volumes.values.reduce(0) { $0 + $1.storedByteCount } }
    /// The bytes of the streams that were read so far.
    package var storedPosition: UInt64 {
        state.withLock { state in
            state.open.values.reduce(state.closedByteCount) { $0 + $1.stream.content.position }
        }
    }
    /// The labels of the parts whose damage nothing would show.
    package var unchecked: [String] {
        volumes.sorted { $0.key < $1.key }.filter(\.value.isUnchecked).map(\.value.label)
    }
    /// The places of the parts that are raw images of their volumes.
    package var rawPlaces: [ByteRange] {
        volumes.keys.sorted().filter { volumes[$0]?.isRaw ?? false }.flatMap { disk.parts[$0].segments }
    }
    /// The places of all parts that have content.
    package var partPlaces: [ByteRange] { disk.parts.flatMap(\.segments) }

    package var unreadable: AllocationMap {
        AllocationMap(byteCount: byteCount, unsorted: missing.flatMap(\.ranges))
    }

    /// A missing part is an error: zeros there would pass for content.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failure(_ reason: String, _ errorNumber: Int32 = 0) -> BlockIOError {
            BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: reason)
        }
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else {
            throw failure("that is past its end at byte \(byteCount)")
        }
        let window = offset..<offset + UInt64(buffer.count)
        // Before a stream advances: the caller may read the other parts of the range again.
        if let part = missing.first(where: { $0.ranges.contains { $0.overlaps(window) } }) {
            throw failure("\(part.label) has no image", Errno.ioError.rawValue)
        }
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let result = state.withLock { state in
            Result { () throws(ImageError) in
                for place in places[firstPlace(endingAfter: offset)...] {
                    let part = place.range.clamped(to: window)
                    guard !part.isEmpty else { break }
                    let slice = Int(part.lowerBound - offset)..<Int(part.upperBound - offset)
                    unsafe try read(
                        place, part, into: UnsafeMutableRawBufferPointer(rebasing: buffer[slice]), &state)
                }
            }
        }
        do throws(ImageError) { try result.get() } catch {
            state.withLock { $0.failure = error }
            if case .system(let call) = error { throw failure("\(call)", call.errno.rawValue) }
            throw failure("\(error)")
        }
    }

    /// The index of the first place that ends behind `offset`.
    private func firstPlace(endingAfter offset: UInt64) -> Int {
        var (low, high) = (0, places.count)
        while low < high {
            let middle = (low + high) / 2
            if places[middle].range.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    private func read(
        _ place: ForeignPlace, _ part: ByteRange, into target: UnsafeMutableRawBufferPointer, _ state: inout State
    ) throws(ImageError) {
        let start = part.lowerBound - place.range.lowerBound
        switch place.source {
        case .zeros, .missing: return
        case .bytes(let bytes): unsafe target.copyBytes(from: bytes[Int(start)..<Int(start) + target.count])
        case .volume(let index, let offset):
            unsafe try read(index, at: offset + start, into: target, &state)
        }
    }

    private func read(
        _ index: Int, at offset: UInt64, into target: UnsafeMutableRawBufferPointer, _ state: inout State
    ) throws(ImageError) {
        guard let volume = volumes[index] else { return }
        if let broken = state.broken[index], offset + UInt64(target.count) > broken.offset { throw broken.error }
        let last = volume.used.ranges.last?.upperBound ?? 0
        // Nothing is stored there; the stream may have been read to its end.
        guard !volume.used.ranges(in: offset..<offset + UInt64(target.count)).isEmpty else { return }
        if let known = state.open[index], known.position > offset { state.open[index] = nil }
        do throws(ImageError) { unsafe try readStream(volume, index, at: offset, into: target, &state) } catch {
            // Its position is unknown, and it may hold blocks whose checksum does not fit.
            state.open[index] = nil
            if Salvage.isDamage(error), state.broken[index] == nil { state.broken[index] = (offset, error) }
            throw error
        }
        if let open = state.open[index], open.position >= last { try finish(index, open, from: offset, &state) }
    }

    private func readStream(
        _ volume: ForeignVolume, _ index: Int, at offset: UInt64, into target: UnsafeMutableRawBufferPointer,
        _ state: inout State
    ) throws(ImageError) {
        var open = if let known = state.open[index] { known } else { OpenVolume(stream: try volume.open()) }
        // The stream has the length of its volume; its room may be longer.
        let count = Int(min(UInt64(target.count), open.stream.byteCount - min(offset, open.stream.byteCount)))
        unsafe try open.stream.read(into: UnsafeMutableRawBufferPointer(rebasing: target[..<count]), at: offset)
        open.position = offset + UInt64(target.count)
        state.open[index] = open
    }

    /// Checks the end of a stream, and closes it.
    private func finish(
        _ index: Int, _ open: OpenVolume, from offset: UInt64, _ state: inout State
    ) throws(ImageError) {
        state.open[index] = nil
        do throws(ImageError) { try open.stream.finish() } catch {
            if Salvage.isDamage(error), state.broken[index] == nil { state.broken[index] = (offset, error) }
            throw error
        }
        if state.finished.insert(index).inserted { state.closedByteCount += volumes[index]?.storedByteCount ?? 0 }
    }

    /// Fails if a stream does not end as it should, or a file was changed.
    package func confirmEnd() throws(ImageError) {
        let result = state.withLock { state in
            Result { () throws(ImageError) in
                for index in volumes.keys.sorted() where !state.finished.contains(index) {
                    // Its damage was an error already.
                    guard let volume = volumes[index], state.broken[index] == nil else { continue }
                    let open = if let known = state.open[index] { known } else { OpenVolume(stream: try volume.open()) }
                    try finish(index, open, from: open.position, &state)
                }
            }
        }
        try result.get()
        for volume in volumes.values { for file in volume.files { try file.confirmUnchanged() } }
    }
}
