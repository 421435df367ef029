// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import FoundationEssentials

// FoundationEssentials: for JSONEncoder and JSONDecoder, which the executable contains in any case (ArgumentParser and
// swift-crypto link it); a separate JSON parser would be one more component that reads hostile bytes.

/// An image's description of its disk. Stored as JSON with sorted keys; see ImageFormat.md.
package struct Manifest: Codable, Equatable, Sendable {
    /// Features that an older reader may ignore.
    package var compatibleFeatures: [String] = []
    /// Features that a reader must know, or refuse the image.
    package var incompatibleFeatures: [String] = []
    /// The identity of this capture.
    package var imageUUID: GUID
    /// The set of images captured together: the disks of one machine.
    package var captureSet: CaptureSet
    /// The version of the program that made it.
    package var toolVersion: String
    /// The machine that the disk was attached to.
    package var machine: MachineFacts
    /// The identity of the captured disk.
    package var disk: DiskIdentity
    /// Its size and units.
    package var geometry: DiskGeometry
    /// Its partition table, parsed.
    package var table: PartitionTable
    /// The raw bytes at the front of the disk that hold the table.
    package var tableHead: Data
    /// The raw bytes at the end of the disk that hold the backup table.
    package var tableTail: Data
    /// The extended boot records of an MBR, in the order of their chain.
    package var tableRecords: [TableRecord]?
    /// Its boot data.
    package var boot: BootSurvey
    /// The regions of the disk, ascending, without holes.
    package var regions: [Region]
    /// The length of a chunk in bytes.
    package var chunkByteCount: Int
    /// The codec of data: `zstd`, `xz` in an .img.xz, `stored` for images made by other programs.
    package var codec: String
    /// The compression level.
    package var level: Int
    /// Whether every sector was copied.
    package var allSectors: Bool
    /// Places where filesystems of the disk were mounted read-write during the capture (`--allow-mounted`).
    package var mountedReadWrite: [String]
    /// The bytes in use, by the maps.
    package var usedByteCount: UInt64
    /// When the capture began: RFC 3339 in UTC.
    package var started: String
    /// The offset of local time from UTC, in seconds.
    package var localOffsetSeconds: Int
    /// The user's note.
    package var note: String
    /// Tags.
    package var tags: [String]
    /// Warnings for the user.
    package var warnings: [String]

    /// A sector of the partition table between the partitions.
    package struct TableRecord: Codable, Equatable, Sendable {
        /// Its offset on the disk, in bytes.
        package var offset: UInt64
        /// Its bytes.
        package var bytes: Data

        /// From bytes.
        package init(offset: UInt64, bytes: [UInt8]) {
            self.offset = offset
            self.bytes = Data(bytes)
        }
    }

    /// A set of images.
    package struct CaptureSet: Codable, Equatable, Sendable {
        /// Its identity.
        package var uuid: GUID
        /// The number of this disk in the set, from 1.
        package var index: Int
        /// The number of disks in the set.
        package var count: Int

        /// Names a place in a set.
        package init(uuid: GUID, index: Int = 1, count: Int = 1) {
            self.uuid = uuid
            self.index = index
            self.count = count
        }
    }

    /// A part of the disk with its own chunk grid, which starts at the start of the region.
    package struct Region: Codable, Equatable, Sendable {
        /// The kinds.
        package enum Kind: String, Codable, Sendable {
            /// A partition of the table.
            case partition
            /// Between partitions, before the first or after the last.
            case gap
            /// The whole disk: a filesystem without a table, or a table that is not understood.
            case disk
        }
        /// The kind.
        package var kind: Kind
        /// Its range on the disk, in bytes.
        package var range: ByteRange
        /// The number of its partition.
        package var partition: Int?
        /// The filesystem in it.
        package var filesystem: FilesystemInfo?
        /// Whether a gap was left out for its length.
        package var isSkipped: Bool
        /// The bytes in use, by its map.
        package var usedByteCount: UInt64

        /// Describes a region.
        package init(
            kind: Kind, range: ByteRange, partition: Int? = nil, filesystem: FilesystemInfo? = nil,
            isSkipped: Bool = false, usedByteCount: UInt64
        ) {
            self.kind = kind
            self.range = range
            self.partition = partition
            self.filesystem = filesystem
            self.isSkipped = isSkipped
            self.usedByteCount = usedByteCount
        }
    }

    /// Describes a capture.
    package init(
        imageUUID: GUID, captureSet: CaptureSet, toolVersion: String, machine: MachineFacts, disk: DiskIdentity,
        geometry: DiskGeometry, table: PartitionTable, tableHead: [UInt8], tableTail: [UInt8],
        tableRecords: [TableRecord]? = nil, boot: BootSurvey, regions: [Region], chunkByteCount: Int, level: Int,
        allSectors: Bool, mountedReadWrite: [String],
        usedByteCount: UInt64, started: String, localOffsetSeconds: Int, note: String = "", tags: [String] = [],
        warnings: [String] = []
    ) {
        self.imageUUID = imageUUID
        self.captureSet = captureSet
        self.toolVersion = toolVersion
        self.machine = machine
        self.disk = disk
        self.geometry = geometry
        self.table = table
        self.tableHead = Data(tableHead)
        self.tableTail = Data(tableTail)
        self.tableRecords = tableRecords
        self.boot = boot
        self.regions = regions
        self.chunkByteCount = chunkByteCount
        codec = "zstd"
        self.level = level
        self.allSectors = allSectors
        self.mountedReadWrite = mountedReadWrite
        self.usedByteCount = usedByteCount
        self.started = started
        self.localOffsetSeconds = localOffsetSeconds
        self.note = note
        self.tags = tags
        self.warnings = warnings
    }
}

/// The machine on which a disk was captured.
package struct MachineFacts: Codable, Equatable, Sendable {
    /// The DMI product name.
    package var product: String?
    /// The DMI vendor.
    package var vendor: String?
    /// The DMI product UUID.
    package var uuid: String?
    /// `x86_64`, …
    package var architecture: String
    /// `bios` or `uefi`.
    package var firmware: String
    /// Whether Secure Boot was on; `nil` if unknown.
    package var secureBoot: Bool?
    /// The UEFI boot entries by name (`Boot0001`), raw bytes in hexadecimal.
    package var bootEntries: [String: String]
    /// The raw UEFI BootOrder in hexadecimal.
    package var bootOrder: String?
    /// The host name of the captured system, if known.
    package var hostName: String?

    /// Describes a machine.
    package init(
        product: String? = nil, vendor: String? = nil, uuid: String? = nil, architecture: String, firmware: String,
        secureBoot: Bool? = nil, bootEntries: [String: String] = [:], bootOrder: String? = nil, hostName: String? = nil
    ) {
        self.product = product
        self.vendor = vendor
        self.uuid = uuid
        self.architecture = architecture
        self.firmware = firmware
        self.secureBoot = secureBoot
        self.bootEntries = bootEntries
        self.bootOrder = bootOrder
        self.hostName = hostName
    }
}

/// The facts known only at the end of a capture.
package struct LateFacts: Codable, Equatable, Sendable {
    /// When the capture ended: RFC 3339 in UTC.
    package var ended: String
    /// Ranges of the disk that could not be read.
    package var unreadable: [ByteRange]
    /// Warnings for the user.
    package var warnings: [String]

    /// Describes the end of a capture.
    package init(ended: String, unreadable: [ByteRange] = [], warnings: [String] = []) {
        self.ended = ended
        self.unreadable = unreadable
        self.warnings = warnings
    }
}

extension Manifest {
    /// The incompatible features known to this version.
    package static let knownIncompatibleFeatures: Set<String> = [unreadableFeature]

    /// The late facts may list ranges that could not be read: a reader must report them.
    package static let unreadableFeature = "unreadable"

    /// Sentences about ranges that the capture could not read, one per partition.
    package func unreadableTexts(_ ranges: [ByteRange]) -> [String] {
        holes(ranges).map(\.unreadableText)
    }

    /// Sentences about ranges that the image has lost since, one per partition.
    package func lostTexts(_ ranges: [ByteRange]) -> [String] {
        holes(ranges).map { $0.text(cause: "cannot be read from the image") }
    }

    /// The missing contents of a region.
    package struct Hole: Equatable, Sendable {
        /// The partition; `nil` outside of all.
        package var partition: Int?
        /// The number of ranges.
        package var rangeCount: Int
        /// Their total length in bytes.
        package var byteCount: UInt64
        /// The start of the first range, in bytes of the captured disk.
        package var firstOffset: UInt64

        /// A sentence for unreadable ranges.
        package var unreadableText: String { text(cause: "could not be read when it was captured or copied") }

        fileprivate func text(cause: String) -> String {
            let place = partition.map { "partition \($0)" } ?? "the space outside of partitions"
            return
                "\(place) has holes: \(ByteText.exact(byteCount)) in \(rangeCount) range\(rangeCount == 1 ? "" : "s"), the first at byte "
                + "\(firstOffset) of the disk, \(cause), and \(rangeCount == 1 ? "is" : "are") zeros here"
        }
    }

    /// The parts of the ranges in each region that has any.
    package func holes(_ ranges: [ByteRange]) -> [Hole] {
        regions.compactMap { region in
            let parts = ranges.map { $0.clamped(to: region.range) }.filter { !$0.isEmpty }
            guard let first = parts.first else { return nil }
            return Hole(
                partition: region.partition, rangeCount: parts.count, byteCount: parts.reduce(0) { $0 + $1.byteCount },
                firstOffset: first.lowerBound)
        }
    }

    /// Whether a chunk size is valid: powers of two from 64 KiB to 64 MiB.
    package static func isValidChunkByteCount(_ byteCount: Int) -> Bool {
        byteCount >= 64 << 10 && byteCount <= 64 << 20 && byteCount.nonzeroBitCount == 1
    }

    /// The first contradiction in the manifest, if any: a manifest from a file is not used before this check.
    /// - Parameter expected: the codec of this kind of file.
    package func contradiction(codec expected: String = "zstd") -> String? {
        guard Self.isValidChunkByteCount(chunkByteCount) else { return "a chunk of \(chunkByteCount) bytes" }
        guard codec == expected else { return "the codec \(codec)" }
        guard geometry.logicalSectorSize == 512 || geometry.logicalSectorSize == 4096 else {
            return "sectors of \(geometry.logicalSectorSize) bytes"
        }
        // 2^60 bytes: an exbibyte, so that sums of offsets never overflow.
        guard geometry.byteCount > 0, geometry.byteCount <= 1 << 60 else {
            return "a disk of \(geometry.byteCount) bytes"
        }
        guard usedByteCount <= geometry.byteCount else { return "\(usedByteCount) bytes in use" }
        guard !regions.isEmpty, regions.count <= 65_535 else { return "\(regions.count) regions" }
        var position: UInt64 = 0
        var numbers: Set<Int> = []
        for region in regions {
            guard region.range.lowerBound == position, !region.range.isEmpty else {
                return "a region that does not start where the one before ends, at byte \(position)"
            }
            position = region.range.upperBound
            guard (region.kind == .partition) == (region.partition != nil) else { return "a region of two kinds" }
            if let number = region.partition {
                guard numbers.insert(number).inserted,
                    table.partitions.contains(where: { $0.number == number && $0.range == region.range && $0.isVolume })
                else { return "a region for partition \(number), which the table has not" }
            }
        }
        guard position == geometry.byteCount else { return "regions that end at byte \(position)" }
        guard table.partitions.allSatisfy({ $0.number > 0 && $0.range.upperBound <= geometry.byteCount }),
            Set(table.partitions.map(\.number)).count == table.partitions.count
        else { return "partitions without a unique number, or outside the disk" }
        guard numbers.count == table.partitions.count(where: \.isVolume) else {
            return "a table with other partitions than the regions"
        }
        guard UInt64(tableHead.count) + UInt64(tableTail.count) <= min(geometry.byteCount, 4 << 20) else {
            return "table bytes longer than the disk"
        }
        let records = tableRecords ?? []
        guard records.count <= 1024,
            records.allSatisfy({ record in
                record.bytes.count == 512 && record.offset <= geometry.byteCount
                    && geometry.byteCount - record.offset >= 512
            })
        else { return "boot records outside the disk" }
        guard captureSet.count >= 1, captureSet.index >= 1, captureSet.index <= captureSet.count else {
            return "disk \(captureSet.index) of \(captureSet.count)"
        }
        return nil
    }
}
