// SPDX-License-Identifier: GPL-3.0-or-later

/// The machine's physical and logical volumes according to LVM: the output of `pvs` and `lvs`.
package struct LogicalVolumes: Equatable, Sendable {
    /// A partition or disk that holds LVM extents.
    package struct PhysicalVolume: Equatable, Sendable {
        /// Its device, under the name that LVM uses everywhere.
        package var path: String
        /// The name of its group; empty for none.
        package var group: String
        /// The offset of its first extent, in bytes.
        package var dataStart: UInt64
        /// The number of its extents.
        package var extentCount: UInt64
        /// The length of an extent of its group, in bytes.
        package var extentByteCount: UInt64
        /// The number of free extents in the whole group.
        package var groupFreeExtentCount: UInt64
        /// The length of the device in bytes.
        package var byteCount: UInt64
        /// The number of areas with metadata: one before the extents, a second one behind them.
        package var metadataAreaCount: UInt64
    }

    /// A part of a logical volume.
    package struct Segment: Equatable, Sendable {
        /// `linear`, `striped`, `raid1`, `thin`, …
        package var type: String
        /// Its offset in the volume, in bytes.
        package var start: UInt64
        /// Its length in bytes.
        package var byteCount: UInt64
        /// The devices below and the number of the first extent on each.
        package var places: [Place]
    }

    /// The start of a segment on a device.
    package struct Place: Equatable, Sendable {
        /// A physical volume's path, or the name of a hidden volume.
        package var device: String
        /// The number of the first extent there.
        package var extent: UInt64
    }

    /// A logical volume.
    package struct Volume: Equatable, Sendable {
        /// The id that LVM gave it.
        package var uuid: String
        /// The name of its group.
        package var group: String
        /// Its name in the group.
        package var name: String
        /// `lv_attr` (lvs(8)): type, permissions, policy, fixed minor, state, openness, …
        package var attributes: String
        /// The length of the volume in bytes (of a snapshot: its capacity).
        package var byteCount: UInt64
        /// The volume that it is a snapshot of; empty for none.
        package var origin: String
        /// The kernel's device number, where it is active.
        package var deviceNumber: (major: UInt32, minor: UInt32)? {
            major.flatMap { major in minor.map { (major, $0) } }
        }
        var major: UInt32?
        var minor: UInt32?
        /// Its tags.
        package var tags: [String]
        /// Its parts, ascending.
        package var segments: [Segment]

        /// `group/name`, the form that LVM's commands take.
        package var fullName: String { "\(group)/\(name)" }
        /// Whether the device is open: a mount, swap, a program, another device.
        package var isOpen: Bool { letter(5) == "o" }
        /// Whether the kernel has a working device for it.
        package var isActive: Bool { letter(4) == "a" }
        /// Whether it is a plain snapshot of another volume.
        package var isSnapshot: Bool { ["s", "S"].contains(letter(0)) }
        /// Whether it is a plain volume of consecutive extents.
        package var isLinear: Bool {
            ["-", "o"].contains(letter(0)) && segments.allSatisfy { $0.type == "linear" && $0.places.count == 1 }
        }
        func letter(_ index: Int) -> Character {
            let letters = Array(attributes)
            return index < letters.count ? letters[index] : "-"
        }
    }

    package var physicalVolumes: [PhysicalVolume]
    /// All visible logical volumes.
    package var volumes: [Volume]

    /// The columns of `pvs` and `lvs --segments`, in the order in which they are parsed.
    static let physicalColumns =
        "pv_name,vg_name,pe_start,pv_pe_count,vg_extent_size,vg_free_count,dev_size,pv_mda_count"
    static let segmentColumns =
        "lv_uuid,vg_name,lv_name,lv_attr,lv_size,segtype,seg_start,seg_size,origin,lv_kernel_major,lv_kernel_minor,lv_tags,devices"

    /// From the output of `pvs` and `lvs` with these columns, `|` between them and sizes in bytes.
    /// - Throws: if a line does not fit these columns.
    static func parse(pvs: String, lvs: String) throws(LogicalVolumeError) -> LogicalVolumes {
        var result = LogicalVolumes(physicalVolumes: [], volumes: [])
        for line in pvs.split(separator: "\n") {
            let fields = columns(line, 8)
            guard fields.count == 8, let start = UInt64(fields[2]), let count = UInt64(fields[3]),
                let size = UInt64(fields[6]), let areas = UInt64(fields[7])
            else { throw unexpected("pvs", line) }
            // A physical volume without a group has extents of no size.
            result.physicalVolumes.append(
                PhysicalVolume(
                    path: fields[0], group: fields[1], dataStart: start, extentCount: count,
                    extentByteCount: UInt64(fields[4]) ?? 0, groupFreeExtentCount: UInt64(fields[5]) ?? 0,
                    byteCount: size, metadataAreaCount: areas))
        }
        for line in lvs.split(separator: "\n") {
            // Devices last: their names may hold anything.
            let fields = columns(line, 13)
            guard fields.count == 13, let size = UInt64(fields[4]), let start = UInt64(fields[6]),
                let count = UInt64(fields[7]), !fields[0].isEmpty
            else { throw unexpected("lvs", line) }
            let segment = Segment(type: fields[5], start: start, byteCount: count, places: places(fields[12]))
            if let index = result.volumes.firstIndex(where: { $0.uuid == fields[0] }) {
                result.volumes[index].segments.append(segment)
            } else {
                result.volumes.append(
                    Volume(
                        uuid: fields[0], group: fields[1], name: fields[2], attributes: fields[3], byteCount: size,
                        origin: fields[8], major: UInt32(fields[9]), minor: UInt32(fields[10]),
                        tags: fields[11].split(separator: ",").map(String.init), segments: [segment]))
            }
        }
        for index in result.volumes.indices {
            result.volumes[index].segments.sort { $0.start < $1.start }
            var position: UInt64 = 0
            let volume = result.volumes[index]
            // A snapshot's segments are those of its capacity, and cover it.
            for segment in volume.segments {
                guard segment.start == position else {
                    throw LogicalVolumeError("lvs lists \(volume.fullName) with a gap at byte \(position)")
                }
                let (end, overflow) = position.addingReportingOverflow(segment.byteCount)
                guard !overflow else {
                    throw LogicalVolumeError("lvs lists \(volume.fullName) with an impossible size")
                }
                position = end
            }
        }
        return result
    }

    /// `/dev/sda2(0),/dev/sdb1(17)`
    private static func places(_ text: String) -> [Place] {
        text.split(separator: ",").compactMap { part in
            guard part.hasSuffix(")"), let open = part.lastIndex(of: "("),
                let extent = UInt64(part[part.index(after: open)...].dropLast())
            else { return nil }
            return Place(device: String(part[..<open]), extent: extent)
        }
    }

    private static func columns(_ line: Substring, _ count: Int) -> [String] {
        line.split(separator: "|", maxSplits: count - 1, omittingEmptySubsequences: false).map { String($0).trimmed }
    }

    private static func unexpected(_ tool: String, _ line: Substring) -> LogicalVolumeError {
        LogicalVolumeError("\(tool) printed an unexpected line: \"\(line.prefix(200))\"")
    }
}

/// Why an LVM command failed or its output was rejected.
package struct LogicalVolumeError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A sentence for messages.
    package var description: String

    package init(_ description: String) { self.description = description }
}
