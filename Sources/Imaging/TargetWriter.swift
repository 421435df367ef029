// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem

/// Writes to a target, but holds back until the commit what belongs into the first MiB of its area and behind
/// `tailStart`: where tables, and superblocks at the end of a disk, would make it look whole too early. The area is the
/// disk, or the one partition that is restored; nothing outside of it is ever written.
///
/// A filesystem that is going to be made smaller is written to addresses behind every disk (`Overhang`): what its place
/// holds goes there, and the rest to a scratch.
final class TargetWriter: Sendable {
    /// Where a volume goes that is longer than its place.
    struct Overhang: Sendable {
        /// The addresses that mean the volume; its start.
        var base: UInt64
        /// The length of the volume in bytes.
        var byteCount: UInt64
        /// The place for its front on the target.
        var place: ByteRange
        /// Where what does not fit starts on the scratch, in bytes.
        var scratchOffset: UInt64
    }

    /// The first address that is on no disk: an image's disk has 2^60 bytes at most.
    static let overhangBase: UInt64 = 1 << 61

    /// How much at the front is held back, in bytes.
    static let heldByteCount: UInt64 = 1 << 20

    private struct Window {
        var range: ByteRange
        var bytes: [UInt8]

        init(_ range: ByteRange) {
            self.range = range
            bytes = [UInt8](repeating: 0, count: Int(range.byteCount))
        }

        /// The part of `range` that is held here, as indices of `bytes`.
        func indices(_ range: ByteRange) -> Range<Int> {
            let part = range.clamped(to: self.range)
            return Int(part.lowerBound - self.range.lowerBound)..<Int(part.upperBound - self.range.lowerBound)
        }
    }

    let target: any BlockWriter
    /// What may be written, in bytes of the target.
    let area: ByteRange
    /// What lies between both windows is written at once.
    let direct: ByteRange
    private let overhangs: [Overhang]
    private let scratch: (any BlockWriter)?
    private let windows: Monitor<[Window]>
    /// What the target held in the windows before anything was written.
    private let originals: Monitor<[Window]>

    /// - Parameters:
    ///   - area: what may be written; `nil` for all of the target.
    ///   - tailStart: what lies behind it is held back (at most 1 MiB).
    ///   - overhangs: the volumes that are longer than their places, with the scratch that takes the rest.
    init(
        _ target: any BlockWriter, area: ByteRange? = nil, tailStart: UInt64, overhangs: [Overhang] = [],
        scratch: (any BlockWriter)? = nil
    ) {
        self.target = target
        self.overhangs = overhangs
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

    /// Keeps what the target holds in the windows: a restore that writes only what differs compares with that, and not
    /// with what was made invalid since. What cannot be read counts as zeros: a bad sector is no reason not to write it.
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

    /// What is held back at the front of the area.
    var head: [UInt8] { windows.update { $0[0].bytes } }
    /// What is held back at the end.
    var tail: [UInt8] { windows.update { $0[1].bytes } }

    /// A part of an access: where it goes, and which bytes of the caller's buffer it is.
    private struct Part {
        var range: ByteRange
        var start: Int
        var isScratch: Bool
    }

    /// Where a range of addresses goes.
    private func parts(_ range: ByteRange) throws(BlockIOError) -> [Part] {
        if range.upperBound <= Self.overhangBase {
            guard area.covers(range) else { throw outside(range, "it lies outside of what is restored") }
            return [Part(range: range, start: 0, isScratch: false)]
        }
        guard
            let overhang = overhangs.first(where: {
                $0.base <= range.lowerBound && range.upperBound - $0.base <= $0.byteCount
            })
        else { throw outside(range, "it is on no disk") }
        let inside = range.lowerBound - overhang.base..<range.upperBound - overhang.base
        let front = inside.clamped(to: 0..<overhang.place.byteCount)
        let rest = inside.clamped(to: overhang.place.byteCount..<overhang.byteCount)
        var parts: [Part] = []
        if !front.isEmpty {
            let start = overhang.place.lowerBound + front.lowerBound
            parts.append(Part(range: start..<start + front.byteCount, start: 0, isScratch: false))
        }
        if !rest.isEmpty {
            let start = overhang.scratchOffset + (rest.lowerBound - overhang.place.byteCount)
            parts.append(
                Part(
                    range: start..<start + rest.byteCount, start: Int(rest.lowerBound - inside.lowerBound),
                    isScratch: true))
        }
        return parts
    }

    private func outside(_ range: ByteRange, _ reason: String) -> BlockIOError {
        BlockIOError(
            .write, name: target.name, offset: range.lowerBound, byteCount: range.byteCount, errorNumber: 0,
            reason: reason)
    }

    /// Whether any of `range` is held back.
    func holds(_ range: ByteRange) -> Bool { !direct.covers(range) }

    /// Puts bytes into what is held back; what is not held back there is not written.
    func hold(_ bytes: [UInt8], at offset: UInt64) {
        bytes.withUnsafeBytes { hold($0, at: offset) }
    }

    /// Puts bytes into what is held back; what is not held back there is not written.
    func hold(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        let range = offset..<offset + UInt64(bytes.count)
        // No partition that is made smaller lies in a window: neither starts in the first MiB nor ends behind all others.
        guard offset < Self.overhangBase, holds(range) else { return }
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
        for part in try parts(offset..<offset + UInt64(bytes.count)) {
            let piece = UnsafeRawBufferPointer(rebasing: bytes[part.start..<part.start + Int(part.range.byteCount)])
            if part.isScratch {
                try scratch?.write(piece, at: part.range.lowerBound)
            } else {
                try writeTarget(piece, at: part.range.lowerBound)
            }
        }
    }

    private func writeTarget(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = offset..<offset + UInt64(bytes.count)
        hold(bytes, at: offset)
        let now = range.clamped(to: direct)
        guard !now.isEmpty else { return }
        let start = Int(now.lowerBound - offset)
        try target.write(
            UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(now.byteCount)]), at: now.lowerBound)
    }

    /// Makes a range zero, now or at the commit.
    func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) {
            if part.isScratch {
                try scratch?.writeZeros(part.range)
            } else {
                try writeTargetZeros(part.range)
            }
        }
    }

    /// Makes a range of the target zero, now or at the commit. What of it is on the scratch, which is new, is zero where
    /// nothing was restored.
    func clear(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) where !part.isScratch { try writeTargetZeros(part.range) }
    }

    private func writeTargetZeros(_ range: ByteRange) throws(BlockIOError) {
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

    /// Reads bytes as they were before the first write, where nothing was restored to that place since.
    func readOriginal(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try read(into: buffer, at: offset, under: originals)
    }

    private func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, under windows: Monitor<[Window]>
    ) throws(BlockIOError) {
        for part in try parts(offset..<offset + UInt64(buffer.count)) {
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: buffer[part.start..<part.start + Int(part.range.byteCount)])
            if part.isScratch {
                try scratch?.read(into: piece, at: part.range.lowerBound)
            } else {
                try readTarget(into: piece, at: part.range.lowerBound, under: windows)
            }
        }
    }

    private func readTarget(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, under windows: Monitor<[Window]>
    ) throws(BlockIOError) {
        try target.read(into: buffer, at: offset)
        let range = offset..<offset + UInt64(buffer.count)
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

    /// Whether a range was zero before the first write; what of it is held back is zero in any case. A range that cannot
    /// be read is not: it is written.
    func isZero(_ range: ByteRange) -> Bool {
        var bytes = [UInt8](repeating: 0, count: Int(range.byteCount))
        return bytes.withUnsafeMutableBytes { buffer in
            guard (try? readOriginal(into: buffer, at: range.lowerBound)) != nil else { return false }
            return ZeroTest.isZero(UnsafeRawBufferPointer(buffer))
        }
    }
}

extension TargetWriter {
    /// Everything on the medium, and nothing in a cache that another node of the same disk would not see.
    func settle(_ progress: Progress) throws(BlockIOError) {
        progress.begin("flush", total: 0)
        try target.flush()
        try (target as? BlockDevice)?.dropCache()
    }
}

/// The target as it will be after the commit.
extension TargetWriter: BlockReader {
    var byteCount: UInt64 { target.byteCount }
    var logicalSectorSize: Int { target.logicalSectorSize }
    var name: String { target.name }
}
