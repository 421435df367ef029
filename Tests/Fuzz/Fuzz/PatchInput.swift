// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport

/// What libFuzzer's bytes mean to a disk: which fixture, how long it claims to be, and patches of it.
///
/// Byte 0: the fixture. Byte 1: bit 0 leaves the checksums as they are, bit 1 makes the disk huge, so that any size that it
/// claims fits. Then 13 bytes a patch: which of the places that the parser reads (2), where in it (2), how (1), a value (8).
/// All parts have a fixed length, so that any mutation leaves patches.
struct PatchInput {
    static let patchByteCount = 13
    private static let mostPatches = 64
    let bytes: [UInt8]

    /// Some small changes of one fixture: mutation of nothing takes long to become a patch.
    static func seed(fixture: Int) -> [UInt8] {
        let patches = (0..<6 as Range<UInt8>).flatMap { index -> [UInt8] in
            [index * 7, 0, index * 11, 0, 4 + index % 4, 1] + [UInt8](repeating: 0, count: 7)
        }
        return [UInt8(truncatingIfNeeded: fixture), 0] + patches
    }

    /// The damaged disk.
    /// - Parameter places: what the parser read of the sound one.
    func reader(_ fixture: HostileFixture, _ places: [Range<Int>]) throws -> PatchedReader {
        var reader = fixture.reader
        let flags = bytes.count > 1 ? bytes[1] : 0
        if flags & 2 != 0 { reader.byteCount = 1 << 60 }
        for start in stride(from: 2, through: bytes.count - Self.patchByteCount, by: Self.patchByteCount)
            .prefix(Self.mostPatches)
        {
            if let patch = try patch(Array(bytes[start..<start + Self.patchByteCount]), reader, places) {
                reader.patches.append(patch)
            }
        }
        if flags & 1 == 0 { try fixture.mend(&reader) }
        return reader
    }

    private func patch(
        _ raw: [UInt8], _ reader: PatchedReader, _ places: [Range<Int>]
    ) throws -> (offset: Int, bytes: [UInt8])? {
        guard !places.isEmpty else { return nil }
        let place = places[(Int(raw[0]) | Int(raw[1]) << 8) % places.count]
        guard !place.isEmpty else { return nil }
        let position = Int(raw[2]) | Int(raw[3]) << 8
        let how = raw[4]
        let width = 1 << Int(how & 3)
        // What matters most stands at the front of what is read: half of the offsets lie in the first 512 bytes.
        var offset = position < 1 << 15 ? position % min(place.count, 512) : (position - 1 << 15) * place.count >> 15
        if how & 8 != 0 { offset = offset / width * width }
        offset += place.lowerBound
        guard offset >= 0, UInt64(offset) + UInt64(width) <= reader.byteCount, offset + width <= reader.base.count
        else {
            return nil
        }
        var value = Array(raw[5..<5 + width])
        if how & 16 != 0 { value.reverse() }
        guard how & 4 != 0 else { return (offset, value) }
        // Added to what is there.
        var carry = 0
        let old = try reader.current(offset..<offset + width)
        let sum = zip(old, value).map { old, new in
            let sum = Int(old) + Int(new) + carry
            carry = sum >> 8
            return UInt8(truncatingIfNeeded: sum)
        }
        return (offset, sum)
    }
}

/// Notes what is read, in the order in which it is.
struct TracingReader: BlockReader {
    final class Trace {
        var places: [Range<Int>] = []
        var seen: Set<Range<Int>> = []
        var ranges: AllocationMap
        /// Called for every range that was not read before.
        var note: () -> Void = {}
        init(byteCount: UInt64) { ranges = AllocationMap(byteCount: byteCount) }
    }

    nonisolated(unsafe) let trace: Trace
    let base: any BlockReader
    var byteCount: UInt64 { base.byteCount }
    var logicalSectorSize: Int { base.logicalSectorSize }
    var name: String { base.name }

    init(_ base: any BlockReader) {
        self.base = base
        trace = Trace(byteCount: base.byteCount)
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try base.read(into: buffer, at: offset)
        guard !buffer.isEmpty, offset < 1 << 40 else { return }
        let place = Int(offset)..<Int(offset) + buffer.count
        guard trace.seen.insert(place).inserted else { return }
        trace.places.append(place)
        trace.ranges.insert(offset..<offset + UInt64(buffer.count))
        trace.note()
    }
}
