// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Writes to a target, but holds back until the commit the first MiB of its area and everything after `tailStart`,
/// where tables and superblocks would make the target look whole too early. The area is the disk, or the one restored
/// partition; nothing outside it is ever written.
///
/// A region of the image is written through `PlacedRegion`, which sends spills to the scratch.
final class TargetWriter: Sendable {
    /// The length of the held-back front, in bytes.
    static let heldByteCount: UInt64 = 1 << 20

    private struct Window {
        var range: ByteRange
        var bytes: [UInt8]

        init(_ range: ByteRange) {
            self.range = range
            bytes = [UInt8](repeating: 0, count: Int(range.byteCount))
        }

        /// The part of `range` inside the window, as indices of `bytes`.
        func indices(_ range: ByteRange) -> Range<Int> {
            let part = range.clamped(to: self.range)
            return Int(part.lowerBound - self.range.lowerBound)..<Int(part.upperBound - self.range.lowerBound)
        }
    }

    let target: any BlockWriter
    /// The range that may be written, in bytes of the target.
    let area: ByteRange
    /// The range between both windows, which is written at once.
    let direct: ByteRange
    /// Receives spills; `nil` if there are none.
    let scratch: (any BlockWriter)?
    private let windows: Monitor<[Window]>
    /// The target's contents in the windows before the first write.
    private let originals: Monitor<[Window]>

    /// - Parameters:
    ///   - area: the range that may be written; `nil` for the whole target.
    ///   - tailStart: the start of the held-back tail (at most 1 MiB long).
    ///   - scratch: receives spills.
    init(
        _ target: any BlockWriter, area: ByteRange? = nil, tailStart: UInt64, scratch: (any BlockWriter)? = nil
    ) {
        self.target = target
        self.scratch = scratch
        let area = (area ?? 0..<target.byteCount).clamped(to: 0..<target.byteCount)
        self.area = area
        let held = min(Self.heldByteCount, area.byteCount)
        let headEnd = area.lowerBound + held
        let tailStart = max(headEnd, min(tailStart, area.upperBound), area.upperBound - held)
        direct = headEnd..<tailStart
        windows = Monitor([Window(area.lowerBound..<headEnd), Window(tailStart..<area.upperBound)])
        originals = Monitor([Window(area.lowerBound..<headEnd), Window(tailStart..<area.upperBound)])
    }

    /// Saves the target's contents in the windows: a restore that writes only differences compares with these, and not
    /// with the invalidated target. Unreadable contents count as zeros, and are rewritten.
    func keepOriginals() {
        let kept = originals.update { $0 }
        var read: [Window] = []
        for var window in kept {
            if let bytes = try? target.readBytes(at: window.range.lowerBound, count: window.bytes.count) {
                window.bytes = bytes
            }
            read.append(window)
        }
        originals.update { $0 = read }
    }

    /// The held-back bytes at the front of the area.
    var head: [UInt8] { windows.update { $0[0].bytes } }
    /// The held-back bytes at the end of the area.
    var tail: [UInt8] { windows.update { $0[1].bytes } }

    private func requireInside(_ range: ByteRange) throws(BlockIOError) {
        guard area.covers(range) else {
            throw BlockIOError(
                .write, name: target.name, offset: range.lowerBound, byteCount: range.byteCount, errorNumber: 0,
                reason: "it is outside of the restored ranges")
        }
    }

    /// Whether any of `range` is held back.
    func holds(_ range: ByteRange) -> Bool { !direct.covers(range) }

    /// Puts the bytes inside the windows into them; other bytes are not written.
    func hold(_ bytes: [UInt8], at offset: UInt64) {
        bytes.withUnsafeBytes { hold($0, at: offset) }
    }

    /// Puts the bytes inside the windows into them; other bytes are not written.
    func hold(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        let range = offset..<offset + UInt64(bytes.count)
        guard holds(range) else { return }
        windows.update { windows in
            for index in windows.indices {
                let place = windows[index].indices(range)
                guard !place.isEmpty else { continue }
                let start = Int(windows[index].range.lowerBound + UInt64(place.lowerBound) - offset)
                windows[index].bytes.replaceSubrange(
                    place, with: UnsafeRawBufferPointer(rebasing: bytes[start..<start + place.count]))
            }
        }
    }

    /// Writes bytes at their place, now or at the commit.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = offset..<offset + UInt64(bytes.count)
        try requireInside(range)
        hold(bytes, at: offset)
        let now = range.clamped(to: direct)
        guard !now.isEmpty else { return }
        let start = Int(now.lowerBound - offset)
        try target.write(
            UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(now.byteCount)]), at: now.lowerBound)
    }

    /// Zeroes a range, now or at the commit.
    func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        try requireInside(range)
        windows.update { windows in
            for index in windows.indices {
                let place = windows[index].indices(range)
                windows[index].bytes.replaceSubrange(place, with: repeatElement(0, count: place.count))
            }
        }
        let now = range.clamped(to: direct)
        if !now.isEmpty { try target.writeZeros(now) }
    }

    /// Reads bytes as they will be after the commit.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try read(into: buffer, at: offset, under: windows)
    }

    /// Reads bytes as they were before the first write, if nothing was restored to that place since.
    func readOriginal(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try read(into: buffer, at: offset, under: originals)
    }

    private func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, under windows: Monitor<[Window]>
    ) throws(BlockIOError) {
        let range = offset..<offset + UInt64(buffer.count)
        try requireInside(range)
        try target.read(into: buffer, at: offset)
        guard holds(range) else { return }
        windows.update { windows in
            for window in windows {
                let place = window.indices(range)
                guard !place.isEmpty else { continue }
                let start = Int(window.range.lowerBound + UInt64(place.lowerBound) - offset)
                UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + place.count])
                    .copyBytes(from: window.bytes[place])
            }
        }
    }
}

extension TargetWriter {
    /// Flushes everything to the medium, and drops the cache, whose contents another node of the same disk would not
    /// see.
    func settle(_ progress: Progress) throws(BlockIOError) {
        progress.begin("flush", total: 0)
        try target.flush()
        try target.dropCache()
    }
}

/// The target as it will be after the commit.
extension TargetWriter: BlockReader {
    var byteCount: UInt64 { target.byteCount }
    var logicalSectorSize: Int { target.logicalSectorSize }
    var name: String { target.name }
}
