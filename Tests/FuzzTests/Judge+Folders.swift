// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import DiskImages
@testable import Filesystems
@testable import ImageModel

/// The texts that other tools write beside their images.
extension Judge {
    /// Before the name of each file in an input that stands for a folder; the name ends with its line.
    static let fileMark: UInt8 = 1

    private static func bytes(_ reader: any BlockReader) throws -> [UInt8] {
        try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20)))
    }

    static func clonezilla(_ reader: any BlockReader) throws { try folder(bytes(reader), .clonezilla) }
    static func fog(_ reader: any BlockReader) throws { try folder(bytes(reader), .fog) }

    /// A folder: the parts of each disk are in order and disjoint, and all files are the folder's own.
    private static func folder(_ bytes: [UInt8], _ format: FolderFormat) throws {
        let scratch = try ScratchFolder()
        for file in bytes.split(separator: fileMark).prefix(32) {
            let name = String(decoding: file.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
            guard !name.isEmpty, !name.contains("/"), !name.contains("\0"), name != ".", name != "..",
                name.utf8.count < 200
            else { continue }
            try Files.write(Array(file.dropFirst(name.utf8.count + 1)), to: scratch.path.appending(name))
        }
        guard try format.recognize(scratch.path), let disks = try? format.disks(scratch.path) else { return }
        for name in disks.prefix(8) {
            guard let disk = try? format.open(scratch.path, name) else { continue }
            try demand(
                disk.files.allSatisfy { $0.removingLastComponent() == scratch.path }, "a file that is not in the folder"
            )
            var places = disk.fixed.map { $0.offset..<$0.offset + UInt64($0.bytes.count) }
            try demand(places.map(\.lowerBound) == places.map(\.lowerBound).sorted(), "bytes that do not ascend")
            places += disk.parts.flatMap(\.segments)
            try disjoint(places, in: disk.geometry.byteCount)
        }
    }

    private static func disjoint(_ places: [ByteRange], in byteCount: UInt64) throws {
        let sorted = places.sorted { $0.lowerBound < $1.lowerBound }
        for (one, other) in zip(sorted, sorted.dropFirst()) {
            try demand(one.upperBound <= other.lowerBound, "\(one) and \(other) overlap")
        }
        try demand(sorted.last?.upperBound ?? 0 <= byteCount, "a place behind the end")
    }

    /// The backup of a volume group's metadata: what is made of it was read again by its initializer.
    static func volumeGroupText(_ reader: any BlockReader) throws {
        let text = try bytes(reader)
        for disk in (try? LVMBackup.disks(in: text))?.prefix(4) ?? [] {
            guard let backup = try? LVMBackup(text: text, id: disk.id, byteCount: 64 << 20) else { continue }
            try disjoint(backup.volumes.flatMap(\.places), in: 64 << 20)
            let head = backup.head.count
            try demand(
                backup.volumes.allSatisfy { $0.places.allSatisfy { $0.lowerBound >= UInt64(head) } },
                "a volume over its metadata")
        }
    }

    static func blockMap(_ reader: any BlockReader) throws {
        guard let map = try? BMap(parsing: try bytes(reader)) else { return }
        try demand(
            map.ranges.map(\.bytes.lowerBound) == map.ranges.map(\.bytes.lowerBound).sorted(),
            "ranges that do not ascend")
        try disjoint(map.ranges.map(\.bytes), in: map.imageByteCount)
    }
}
