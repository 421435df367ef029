// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// A hash of a file's contents, in time that depends on its data and not on its length: a sparse file can be longer than
/// any disk. Holes and zeros are equal.
struct SparseHash {
    private static let blockByteCount = 1 << 16
    private var hash = ContentHash.Running()
    /// The bytes of the block at `index`, as far as they came.
    private var block = [UInt8](repeating: 0, count: blockByteCount)
    private var index: UInt64 = 0

    /// Adds data, in ascending order.
    mutating func add(_ bytes: [UInt8], at offset: UInt64) {
        var rest = bytes[...]
        var position = offset
        while !rest.isEmpty {
            let number = position / UInt64(Self.blockByteCount)
            if number != index { flush(next: number) }
            let start = Int(position % UInt64(Self.blockByteCount))
            let part = rest.prefix(Self.blockByteCount - start)
            block.replaceSubrange(start..<start + part.count, with: part)
            rest = rest.dropFirst(part.count)
            position += UInt64(part.count)
        }
    }

    mutating func finish(byteCount: UInt64) -> ContentHash {
        flush(next: 0)
        add(number: byteCount)
        return hash.finish()
    }

    /// Only blocks with data count, each with its place.
    private mutating func flush(next: UInt64) {
        if block.contains(where: { $0 != 0 }) {
            add(number: index)
            hash.update(block)
            block = [UInt8](repeating: 0, count: Self.blockByteCount)
        }
        index = next
    }

    private mutating func add(number: UInt64) {
        hash.update((0..<8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) })
    }
}
