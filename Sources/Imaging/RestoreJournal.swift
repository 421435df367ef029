// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

/// The progress of a restore, kept on the target itself, inside its first MiB, until the commit overwrites it.
///
/// Writes alternate between two slots, each with a CRC: a power cut during one write leaves the other slot.
struct RestoreJournal: Equatable {
    /// The offsets of the slots on the target, in bytes.
    static let slotOffsets: [UInt64] = [64 << 10, 128 << 10]
    static let slotByteCount = 4096
    /// A smaller target has no journal, and each restore of it starts from the beginning. All of its data is held back
    /// until the commit anyway.
    static let leastTargetByteCount: UInt64 = 256 << 10
    private static let tag = Array("RFJOURNL".utf8)
    private static let version: UInt32 = 2

    /// The number of journal writes: the slot with the larger one is the newer.
    var sequence: UInt64
    var imageUUID: GUID
    /// The digest of the plan.
    var planDigest: ContentHash
    /// The position on the captured disk, in bytes, up to which everything is written and flushed.
    var position: UInt64
    /// The length of the captured disk in bytes.
    var diskByteCount: UInt64

    /// The bytes of a slot.
    var slot: [UInt8] {
        var bytes = Self.tag
        bytes.appendLittleEndian(Self.version)
        bytes += [0, 0, 0, 0]
        bytes.appendLittleEndian(sequence)
        bytes += imageUUID.textOrderBytes
        bytes += planDigest.bytes
        bytes.appendLittleEndian(position)
        bytes.appendLittleEndian(diskByteCount)
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes + [UInt8](repeating: 0, count: Self.slotByteCount - bytes.count)
    }

    init(sequence: UInt64, imageUUID: GUID, planDigest: ContentHash, position: UInt64, diskByteCount: UInt64 = 0) {
        self.sequence = sequence
        self.imageUUID = imageUUID
        self.planDigest = planDigest
        self.position = position
        self.diskByteCount = diskByteCount
    }

    /// Parses a slot; `nil` without a journal, or with a torn one.
    init?(slot bytes: [UInt8]) {
        guard bytes.count == Self.slotByteCount, Array(bytes[0..<8]) == Self.tag,
            (try? bytes.littleEndian(UInt32.self, at: 8)) == Self.version,
            (try? bytes.littleEndian(UInt32.self, at: 88)) == CRC32.iso.checksum(bytes[0..<88]),
            let sequence = try? bytes.littleEndian(UInt64.self, at: 16),
            let imageUUID = try? GUID(bigEndianBytes: Array(bytes[24..<40])),
            let planDigest = ContentHash(bytes: bytes[40..<72]),
            let position = try? bytes.littleEndian(UInt64.self, at: 72),
            let diskByteCount = try? bytes.littleEndian(UInt64.self, at: 80)
        else { return nil }
        self.init(
            sequence: sequence, imageUUID: imageUUID, planDigest: planDigest, position: position,
            diskByteCount: diskByteCount)
    }

    /// The newest journal on a target; `nil` without one. An unreadable slot counts as empty.
    static func read(_ target: any BlockReader) -> RestoreJournal? {
        guard target.byteCount >= leastTargetByteCount else { return nil }
        var newest: RestoreJournal?
        for offset in slotOffsets where offset + UInt64(slotByteCount) <= target.byteCount {
            guard let slot = try? target.readBytes(at: offset, count: slotByteCount),
                let journal = RestoreJournal(slot: slot)
            else { continue }
            if newest.map({ $0.sequence < journal.sequence }) ?? true { newest = journal }
        }
        return newest
    }

    /// Writes the next slot. The data that it records must be flushed before.
    mutating func write(to target: any BlockWriter) throws(BlockIOError) {
        // Wrapping: the number was read from a disk.
        sequence &+= 1
        try target.writeBytes(slot, at: Self.slotOffsets[Int(sequence % 2)])
        try target.flush()
    }
}
