// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport

/// Bytes with some of them replaced, and zeros behind them up to any length: a hostile disk that needs no memory.
struct PatchedReader: BlockReader {
    let base: [UInt8]
    var patches: [(offset: Int, bytes: [UInt8])] = []
    var byteCount: UInt64
    var logicalSectorSize = 512
    let name = "hostile"

    init(_ base: [UInt8], logicalSectorSize: Int = 512) {
        self.base = base
        byteCount = UInt64(base.count)
        self.logicalSectorSize = logicalSectorSize
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard UInt64(buffer.count) <= byteCount, offset <= byteCount - UInt64(buffer.count) else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "past its end")
        }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        guard offset < UInt64(base.count) else { return }
        let start = Int(offset)
        let end = min(start + buffer.count, base.count)
        base.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
        for patch in patches {
            let first = max(patch.offset, start)
            let last = min(patch.offset + patch.bytes.count, start + buffer.count)
            guard first < last else { continue }
            patch.bytes.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(rebasing: buffer[first - start..<last - start]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[first - patch.offset..<last - patch.offset]))
            }
        }
    }

    /// A patch of 1 to 8 bytes in one of `areas`: random, extreme, or one off the present value.
    mutating func addRandomPatch(in areas: [Range<Int>], using random: inout SeededGenerator) {
        guard let area = areas.randomElement(using: &random), !area.isEmpty else { return }
        let width = [1, 2, 4, 8].randomElement(using: &random) ?? 4
        let offset = area.lowerBound + Int.random(in: 0..<area.count, using: &random) / width * width
        guard offset + width <= base.count else { return }
        let old = Array(base[offset..<offset + width])
        let bytes: [UInt8] =
            switch Int.random(in: 0..<6, using: &random) {
            case 0: [UInt8](repeating: 0, count: width)
            case 1: [UInt8](repeating: 0xFF, count: width)
            case 2: [UInt8](repeating: 0xFF, count: width - 1) + [0x7F]
            case 3: [old[0] &+ 1] + old.dropFirst()
            case 4: [old[0] &- 1] + old.dropFirst()
            default: (0..<width).map { _ in UInt8.random(in: 0...255, using: &random) }
            }
        patches.append((offset, bytes))
    }

    /// The bytes of a range with the patches.
    func current(_ range: Range<Int>) throws -> [UInt8] {
        try readBytes(at: UInt64(range.lowerBound), count: range.count)
    }
}
