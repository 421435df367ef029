// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import NBD
import TestSupport

/// A served disk in memory. Its holes are where `kinds` says; a read that touches `unreadable` fails, and a read waits
/// while `gate` is closed.
final class SampleServedDisk: ServedDisk {
    let memory: MemoryDisk
    let kinds: [DiskExtent]
    let gate = Monitor(true)
    let readCount = Monitor(0)
    /// How often its extents were asked for.
    let askedCount = Monitor(0)

    var byteCount: UInt64 { memory.byteCount }
    var logicalSectorSize: Int { 512 }
    var name: String { "sample" }

    /// Data, a zero run, data, an unused run, and a short end of data.
    init(seed: UInt64 = 7, data: Int = 300_000, hole: Int = 1 << 20) {
        var random = SeededGenerator(seed: seed)
        var bytes: [UInt8] = []
        var kinds: [DiskExtent] = []
        for (kind, count) in [
            (DiskExtent.Kind.data, data), (.zero, hole), (.data, data), (.unused, hole), (.data, 777),
        ] {
            bytes +=
                kind == .data
                ? (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) | 1 }
                : Array(repeating: 0, count: count)
            kinds.append(DiskExtent(kind, byteCount: UInt64(count)))
        }
        memory = MemoryDisk(bytes)
        self.kinds = kinds
    }

    var bytes: [UInt8] { memory.bytes }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        readCount.update { $0 += 1 }
        _ = gate.wait { $0 ? true : nil }
        try memory.read(into: buffer, at: offset)
    }

    func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        askedCount.update { $0 += 1 }
        var result: [DiskExtent] = []
        var position: UInt64 = 0
        for extent in kinds {
            let part = (position..<position + extent.byteCount).clamped(to: range)
            if !part.isEmpty { result.append(DiskExtent(extent.kind, byteCount: part.byteCount)) }
            position += extent.byteCount
        }
        return result
    }
}
