// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem

/// Writes to a target, but holds back what belongs into its first MiB until the commit.
final class TargetWriter: Sendable {
    /// How much at the front is held back, in bytes.
    static let heldByteCount: UInt64 = 1 << 20

    let target: any BlockWriter
    private let held: Monitor<[UInt8]>
    private let heldEnd: UInt64

    init(_ target: any BlockWriter) {
        self.target = target
        heldEnd = min(Self.heldByteCount, target.byteCount)
        held = Monitor([UInt8](repeating: 0, count: Int(heldEnd)))
    }

    /// What is held back.
    var head: [UInt8] { held.update { $0 } }

    /// Puts bytes into what is held back.
    func hold(_ bytes: [UInt8], at offset: Int) {
        held.update { $0.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
    }

    /// Writes bytes at their place, now or at the commit.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        var rest = bytes
        var position = offset
        if position < heldEnd {
            let count = Int(min(UInt64(rest.count), heldEnd - position))
            let start = Int(position)
            held.update { head in
                head.replaceSubrange(start..<start + count, with: UnsafeRawBufferPointer(rebasing: rest[..<count]))
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            position += UInt64(count)
        }
        if !rest.isEmpty { try target.write(rest, at: position) }
    }

    /// Makes a range zero, now or at the commit.
    func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        if range.lowerBound < heldEnd {
            let part = Int(range.lowerBound)..<Int(min(range.upperBound, heldEnd))
            held.update { head in for index in part { head[index] = 0 } }
        }
        let rest = max(range.lowerBound, heldEnd)..<max(range.upperBound, heldEnd)
        if !rest.isEmpty { try target.writeZeros(rest) }
    }

    /// Reads bytes as they will be after the commit.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try target.read(into: buffer, at: offset)
        guard offset < heldEnd else { return }
        let count = Int(min(UInt64(buffer.count), heldEnd - offset))
        held.update { head in
            buffer.copyBytes(from: head[Int(offset)..<Int(offset) + count])
        }
    }
}
