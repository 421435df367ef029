// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A physical volume made from a backup of its volume group's metadata (vgcfgbackup(8)): the programs that save logical
/// volumes one by one keep this text instead of the metadata area.
package struct LVMBackup: Sendable {
    /// A logical volume on it.
    package struct Volume: Equatable, Sendable {
        package var name: String
        /// Its parts on the physical volume, in bytes, in the order of the logical volume.
        package var places: [ByteRange]
        /// Why its bytes cannot be placed, as a sentence part; `nil` if they can.
        package var obstacle: String?
    }

    package let groupName: String
    /// The start of the physical volume: label, header of the metadata area, and the text.
    package let head: [UInt8]
    /// The visible logical volumes, in the order of the text.
    package let volumes: [Volume]
    /// The places of all logical volumes with an obstacle, and of those that serve them; ascending.
    package let closedPlaces: [ByteRange]

    private static let areaStart = 4096
    /// The end of the metadata area that LVM's programs make.
    private static let usualAreaEnd: UInt64 = 1 << 20

    /// The ids (32 characters, without dashes) of the physical volumes of a text, with the length of their devices in
    /// bytes where it has that.
    package static func disks(in text: [UInt8]) throws(FilesystemError) -> [(id: String, byteCount: UInt64?)] {
        try LVMVolumeGroup(text: text).physicalVolumes.map { ($0.id, $0.deviceByteCount) }
    }

    /// - Parameters:
    ///   - id: which of the group's physical volumes to make, with or without dashes.
    ///   - byteCount: the length of the partition or disk that it fills.
    package init(text: [UInt8], id: String, byteCount: UInt64) throws(FilesystemError) {
        let group = try LVMVolumeGroup(text: text)
        let id = id.filter { $0 != "-" }
        guard let disk = group.physicalVolumes.first(where: { $0.id == id }) else {
            throw .damaged("the backup of the volume group \(group.name) does not name the physical volume \(id)")
        }
        groupName = group.name
        head = try Self.head(disk, try Self.stored(text, group.name), byteCount: byteCount)
        // Read like any physical volume: what was made is checked, and the places have one reader only.
        let volume = PhysicalVolumeHead(bytes: head, byteCount: byteCount)
        let reader = try Self.reader(volume)
        guard reader.group.id == group.id, reader.group.sequenceNumber == group.sequenceNumber,
            reader.group.logicalVolumes.map(\.id) == group.logicalVolumes.map(\.id)
        else { throw .damaged("the backup of the volume group \(group.name) is not understood") }
        let info = FilesystemInfo(kind: .lvm, kindName: "LVM2_member", mapSource: .allocationStructures)
        let container = try reader.container(info, volumeByteCount: byteCount)
        volumes = container.inner.map { inner in
            let name = String(inner.name.dropFirst(group.name.count + 1))
            return switch inner.contents {
            case .segments(let segments): Volume(name: name, places: segments.map(\.place), obstacle: nil)
            case .closed(let why): Volume(name: name, places: [], obstacle: why)
            }
        }
        // The container has checked these numbers.
        let heap = disk.extentStart..<disk.extentStart + disk.extentCount * group.extentByteCount
        closedPlaces = container.alwaysUsed.filter { heap.covers($0) && !$0.isEmpty }
            .sorted { $0.lowerBound < $1.lowerBound }
    }

    private static func reader(_ volume: PhysicalVolumeHead) throws(FilesystemError) -> LVMReader {
        let labels = try FilesystemError.reading { () throws(BlockIOError) in try LVMLabel.find(volume) }
        guard let label = labels.first else { throw .damaged("its label") }
        return try LVMReader(volume, try FilesystemError.parsing { () throws(ParsingError) in try label.get() })
    }

    /// The text in the order of a metadata area, where the group comes first: LVM's programs look for its name there
    /// (`lib/format_text/format-text.c`, `vgname_from_mda`). A backup begins with remarks and other values.
    private static func stored(_ text: [UInt8], _ name: String) throws(FilesystemError) -> [UInt8] {
        let text = Array(text.prefix { $0 != 0 })
        let mark = Array("\(name) {".utf8)
        var start = 0
        while start < text.count {
            if text[start...].starts(with: mark) {
                return Array(text[start...]) + [UInt8(ascii: "\n")] + text[..<start] + [0]
            }
            guard let end = text[start...].firstIndex(of: UInt8(ascii: "\n")) else { break }
            start = end + 1
        }
        throw .damaged("the backup of the volume group \(name) does not have it at the start of a line")
    }

    private static func head(
        _ disk: LVMVolumeGroup.PhysicalVolume, _ text: [UInt8], byteCount: UInt64
    ) throws(FilesystemError) -> [UInt8] {
        let headerByteCount = LVMMetadataArea.headerByteCount
        let room = min(disk.extentStart, disk.bootLoaderArea?.lowerBound ?? .max, byteCount)
        let needed = UInt64(areaStart + headerByteCount + text.count)
        guard text.count <= Int(LVMMetadataArea.longestText), needed < room else {
            throw .damaged("its extents leave no room for the metadata of its volume group")
        }
        let end = needed < min(room, usualAreaEnd) ? min(room, usualAreaEnd) : room
        let length = end - UInt64(areaStart)

        var bytes = [UInt8](repeating: 0, count: areaStart + headerByteCount)
        let sector = LVMLabel.sectorSize
        bytes.replaceSubrange(sector..<sector + 8, with: Array("LABELONE".utf8))
        bytes.setLittleEndian(1 as UInt64, at: sector + 8)
        bytes.setLittleEndian(32 as UInt32, at: sector + 20)
        bytes.replaceSubrange(sector + 24..<sector + 32, with: Array("LVM2 001".utf8))
        var header = Array(disk.id.utf8)
        header.appendLittleEndian(disk.deviceByteCount.map { min($0, byteCount) } ?? byteCount)
        for number in [disk.extentStart, 0, 0, 0, UInt64(areaStart), length, 0, 0] { header.appendLittleEndian(number) }
        // pv_header_extension: version 2, PV_EXT_USED.
        header.appendLittleEndian(2 as UInt32)
        header.appendLittleEndian(1 as UInt32)
        if let area = disk.bootLoaderArea {
            header.appendLittleEndian(area.lowerBound)
            header.appendLittleEndian(area.byteCount)
        }
        bytes.replaceSubrange(sector + 32..<sector + 32 + header.count, with: header)
        bytes.setLittleEndian(LVMLabel.checksum(Array(bytes[sector + 20..<2 * sector])), at: sector + 16)

        bytes.replaceSubrange(areaStart + 4..<areaStart + 20, with: LVMMetadataArea.magic)
        bytes.setLittleEndian(1 as UInt32, at: areaStart + 20)
        bytes.setLittleEndian(UInt64(areaStart), at: areaStart + 24)
        bytes.setLittleEndian(length, at: areaStart + 32)
        bytes.setLittleEndian(UInt64(headerByteCount), at: areaStart + 40)
        bytes.setLittleEndian(UInt64(text.count), at: areaStart + 48)
        bytes.setLittleEndian(LVMLabel.checksum(text), at: areaStart + 56)
        bytes.setLittleEndian(LVMLabel.checksum(Array(bytes[(areaStart + 4)...])), at: areaStart)
        return bytes + text
    }
}

/// The start of a physical volume, with zeros behind it.
private struct PhysicalVolumeHead: BlockReader {
    let bytes: [UInt8]
    let byteCount: UInt64
    var logicalSectorSize: Int { 512 }
    var name: String { "the physical volume" }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let start = Int(min(offset, UInt64(bytes.count)))
        unsafe buffer.copyBytes(from: bytes[start..<min(bytes.count, start + buffer.count)])
    }
}
