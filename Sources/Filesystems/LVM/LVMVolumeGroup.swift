// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A volume group according to its metadata text (LVM2's `lib/format_text/import_vsn1.c`). Lengths in bytes; an extent
/// has `extentByteCount` of them.
struct LVMVolumeGroup: Sendable {
    /// One of its disks.
    struct PhysicalVolume: Sendable {
        /// Its name in the text: `pv0`.
        var name: String
        /// 32 characters, without dashes.
        var id: String
        var status: Set<String>
        /// The length of the disk according to the group, if given.
        var deviceByteCount: UInt64?
        /// The start of extent 0 on the disk.
        var extentStart: UInt64
        var extentCount: UInt64
        /// The area of a boot loader.
        var bootLoaderArea: ByteRange?
    }

    /// A volume, including those that only serve another (`pool_tdata`).
    struct LogicalVolume: Sendable {
        var name: String
        var id: String
        /// Both lists of the text, `status` and `flags`.
        var status: Set<String>
        var segments: [Segment]
    }

    /// A part of a logical volume.
    struct Segment: Sendable {
        var start: UInt64
        var extentCount: UInt64
        /// Without the part after a `+`: flags that older programs must not ignore.
        var type: String
        var hasTypeFlags: Bool
        /// For `striped`: the number of areas; `nil` for all other types.
        var stripeCount: UInt64?
        /// Every name in it with the number after it (the first extent): physical and logical volumes,
        /// and words of other meaning.
        var references: [(name: String, extent: UInt64?)]
        /// The single area of a linear segment.
        var linearArea: (name: String, extent: UInt64)?
    }

    var name: String
    var id: String
    var sequenceNumber: UInt64
    var status: Set<String>
    /// The coordinator of several hosts, if any: `sanlock`, `dlm`, …
    var lockType: String?
    /// The only host that may change the group, if it belongs to one (lvmsystemid(7)).
    var systemID: String?
    var extentByteCount: UInt64
    var physicalVolumes: [PhysicalVolume]
    var logicalVolumes: [LogicalVolume]

    /// Parses the text of a metadata area.
    init(text: [UInt8]) throws(FilesystemError) {
        let root = try LVMConfigSection(parsing: text)
        guard root.text("contents") == "Text Format Volume Group", root.number("version") == 1 else {
            throw .damaged("its metadata is of a form that is not known")
        }
        guard root.sections.count == 1, let (name, group) = root.sections.first else {
            throw .damaged("its metadata describes \(root.sections.count) volume groups")
        }
        // Absent in metadata of very old programs.
        guard group.text("format") ?? "lvm2" == "lvm2" else { throw .damaged("its volume group is not of format lvm2") }
        self.name = name
        id = try Self.id(group, name)
        sequenceNumber = try Self.number(group, "seqno", of: name)
        status = try Self.status(group, name)
        lockType = group.text("lock_type").flatMap { $0 == "none" ? nil : $0 }
        systemID = group.text("system_id").flatMap { $0.isEmpty ? nil : $0 }
        // In sectors, like all lengths of the text that are not in extents.
        extentByteCount = try Self.bytes(group, "extent_size", of: name)
        guard extentByteCount > 0 else { throw .damaged("its extents have no length") }
        physicalVolumes = []
        for (name, section) in group.section("physical_volumes")?.sections ?? [] {
            physicalVolumes.append(try Self.physicalVolume(name, section))
        }
        logicalVolumes = []
        for (name, section) in group.section("logical_volumes")?.sections ?? [] {
            logicalVolumes.append(try Self.logicalVolume(name, section))
        }
    }

    private static func physicalVolume(
        _ name: String, _ section: LVMConfigSection
    ) throws(FilesystemError) -> PhysicalVolume {
        var bootLoaderArea: ByteRange?
        if section.values["ba_start"] != nil || section.values["ba_size"] != nil {
            let start = try bytes(section, "ba_start", of: name)
            bootLoaderArea = ByteRange(offset: start, byteCount: try bytes(section, "ba_size", of: name))
            guard bootLoaderArea != nil else { throw .damaged("the boot loader area of \(name)") }
        }
        return PhysicalVolume(
            name: name, id: try id(section, name), status: try status(section, name),
            deviceByteCount: section.values["dev_size"] == nil ? nil : try bytes(section, "dev_size", of: name),
            extentStart: try bytes(section, "pe_start", of: name),
            extentCount: try extents(section, "pe_count", of: name), bootLoaderArea: bootLoaderArea)
    }

    private static func logicalVolume(
        _ name: String, _ section: LVMConfigSection
    ) throws(FilesystemError) -> LogicalVolume {
        let segments = section.sections.filter { $0.name.hasPrefix("segment") }
        guard UInt64(segments.count) == (try number(section, "segment_count", of: name)),
            segments.count == section.sections.count
        else { throw .damaged("the segments of \(name) are not as many as it says") }
        var parsed: [Segment] = []
        for (_, segment) in segments { parsed.append(try Self.segment(segment, name)) }
        return LogicalVolume(
            name: name, id: try id(section, name), status: try status(section, name),
            segments: parsed.sorted { $0.start < $1.start })
    }

    private static func segment(_ section: LVMConfigSection, _ name: String) throws(FilesystemError) -> Segment {
        guard let type = section.text("type") else { throw .damaged("a segment of \(name) has no type") }
        let parts = type.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
        // Areas may also be in subsections (not in VDO or writecache, perhaps in later formats).
        guard section.sections.isEmpty, let base = parts.first else {
            throw .damaged("a segment of \(name) is not understood")
        }
        var segment = Segment(
            start: try extents(section, "start_extent", of: name),
            extentCount: try extents(section, "extent_count", of: name), type: String(base),
            hasTypeFlags: parts.count > 1, stripeCount: section.number("stripe_count"), references: [])
        for (key, values) in section.values where key != "type" && key != "tags" {
            for (index, value) in values.enumerated() {
                guard case .text(let name) = value else { continue }
                var extent: UInt64?
                if index + 1 < values.count, case .number(let number) = values[index + 1] {
                    extent = UInt64(exactly: number)
                }
                segment.references.append((name, extent))
            }
        }
        if segment.type == "striped" || segment.type == "linear", segment.stripeCount == 1, !segment.hasTypeFlags,
            case .text(let area)? = section.values["stripes"]?.first, section.values["stripes"]?.count == 2,
            segment.references.count == 1, let extent = segment.references[0].extent
        {
            segment.linearArea = (area, extent)
        }
        return segment
    }

    private static func number(
        _ section: LVMConfigSection, _ key: String, of name: String
    ) throws(FilesystemError) -> UInt64 {
        guard let number = section.number(key) else { throw .damaged("the \(key) of \(name) is not a number") }
        return number
    }

    /// A number of extents: LVM stores them in 32 bits.
    private static func extents(
        _ section: LVMConfigSection, _ key: String, of name: String
    ) throws(FilesystemError) -> UInt64 {
        let count = try number(section, key, of: name)
        guard count <= UInt32.max else { throw .damaged("the \(key) of \(name) is too large to be true") }
        return count
    }

    private static func bytes(
        _ section: LVMConfigSection, _ key: String, of name: String
    ) throws(FilesystemError) -> UInt64 {
        let sectors = try number(section, key, of: name)
        return try FilesystemError.parsing { () throws(ParsingError) in
            try sectors.multiplied(by: 512, "the \(key) of \(name)")
        }
    }

    private static func status(_ section: LVMConfigSection, _ name: String) throws(FilesystemError) -> Set<String> {
        guard let status = section.texts("status") else { throw .damaged("the status of \(name) is not known") }
        guard section.values["flags"] == nil || section.texts("flags") != nil else {
            throw .damaged("the flags of \(name) are not known")
        }
        return Set(status + (section.texts("flags") ?? []))
    }

    private static func id(_ section: LVMConfigSection, _ name: String) throws(FilesystemError) -> String {
        let id = (section.text("id") ?? "").filter { $0 != "-" }
        guard id.utf8.count == 32, id.utf8.allSatisfy({ LVMLabel.isIdentifier($0) }) else {
            throw .damaged("the id of \(name) is not valid")
        }
        return id
    }
}
