// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A note on the disk about a restore with a job id: it identifies the job. A machine that starts from the network at
/// each boot has no other place to record that its job is done.
///
/// 4096 bytes in the first MiB, after the partition table and before the first partition, written only if that space is
/// empty.
package struct RestoreNote: Equatable, Sendable {
    /// Its length in bytes, and its alignment.
    package static let byteCount = 4096
    /// The bytes of the disk in which it may be placed.
    package static let area: ByteRange = 32 << 10..<1 << 20

    private static let tag = Array("RFJOBEND".utf8)
    private static let version: UInt32 = 1
    /// The limit of a text in bytes.
    private static let textLimit = 512

    /// The job id from the settings.
    package var jobID: String
    /// The image's UUID, in text.
    package var imageUUID: String
    /// The disk's serial number and World Wide Name: an image of that disk must not be accepted on another one.
    package var disk: String
    /// The disk's length in bytes.
    package var diskByteCount: UInt64
    /// The time when it was written, by the clock of the machine that restored, in seconds since 1970.
    package var unixSeconds: Int64

    /// The note for a restore onto a disk.
    package init(jobID: String, imageUUID: String, disk: DiskIdentity, diskByteCount: UInt64, unixSeconds: Int64) {
        self.jobID = jobID
        self.imageUUID = imageUUID
        self.disk = Self.name(of: disk)
        self.diskByteCount = diskByteCount
        self.unixSeconds = unixSeconds
    }

    /// Whether a text is a valid job id: 1 to 64 letters, digits, dots, hyphens and underscores.
    package static func isJobID(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    /// Whether it belongs to this disk.
    package func isOf(_ disk: DiskIdentity, byteCount: UInt64) -> Bool {
        self.disk == Self.name(of: disk) && diskByteCount == byteCount
    }

    private static func name(of disk: DiskIdentity) -> String {
        String(decoding: Array("\(disk.serial ?? "") \(disk.wwn ?? "")".utf8.prefix(textLimit)), as: UTF8.self)
    }

    /// The encoded note.
    package var bytes: [UInt8] {
        var bytes = Self.tag
        bytes.appendLittleEndian(Self.version)
        bytes.appendLittleEndian(diskByteCount)
        bytes.appendLittleEndian(unixSeconds)
        for text in [jobID, imageUUID, disk] {
            let text = Array(text.utf8.prefix(Self.textLimit))
            bytes.appendLittleEndian(UInt16(text.count))
            bytes += text
        }
        bytes += [UInt8](repeating: 0, count: Self.byteCount - 4 - bytes.count)
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }

    /// Decodes the bytes of a disk; `nil` if they are no note.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount, bytes.starts(with: Self.tag) else { return nil }
        do throws(ParsingError) {
            guard try bytes.littleEndian(UInt32.self, at: 8) == Self.version,
                try bytes.littleEndian(UInt32.self, at: Self.byteCount - 4)
                    == CRC32.iso.checksum(bytes[..<(Self.byteCount - 4)])
            else { return nil }
            diskByteCount = try bytes.littleEndian(UInt64.self, at: 12)
            unixSeconds = try bytes.littleEndian(Int64.self, at: 20)
            var texts: [String] = []
            var position = 28
            for _ in 0..<3 {
                let count = Int(try bytes.littleEndian(UInt16.self, at: position))
                guard count <= Self.textLimit else { return nil }
                texts.append(String(decoding: try bytes.bytes(at: position + 2, count: count), as: UTF8.self))
                position += 2 + count
            }
            (jobID, imageUUID, disk) = (texts[0], texts[1], texts[2])
        } catch { return nil }
    }

    /// The note on a disk; `nil` without one. A note on a disk without a table is of an older restore than the last
    /// one, which was interrupted.
    package static func find(on disk: any BlockReader) throws(BlockIOError) -> RestoreNote? {
        let area = area.clamped(to: 0..<disk.byteCount)
        guard area.byteCount >= UInt64(byteCount), try disk.readBytes(at: 510, count: 2) == [0x55, 0xAA] else {
            return nil
        }
        let bytes = try disk.readBytes(at: area.lowerBound, count: Int(area.byteCount))
        for start in stride(from: 0, through: bytes.count - byteCount, by: byteCount) {
            let place = bytes[start..<start + byteCount]
            if place.starts(with: tag), let note = RestoreNote(bytes: Array(place)) { return note }
        }
        return nil
    }

    /// The offset for a note; `nil` if that space is not empty.
    /// - Parameters:
    ///   - head: the future first MiB of the disk.
    ///   - tableEnd: the end of the partition table, in bytes.
    ///   - firstPartition: the start of the first partition, in bytes.
    package static func place(in head: [UInt8], tableEnd: Int, firstPartition: UInt64) -> Int? {
        let end = Int(min(firstPartition, UInt64(head.count), area.upperBound))
        let place = (end - byteCount) / byteCount * byteCount
        guard place >= max(tableEnd, Int(area.lowerBound)) else { return nil }
        let now = Array(head[place..<place + byteCount])
        return now.allSatisfy { $0 == 0 } || RestoreNote(bytes: now) != nil ? place : nil
    }
}
