// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The master file table: every file's record, and through it all its attributes.
struct NTFSMasterFileTable {
    /// Numbers of the files that each NTFS has (NTFS_SYSTEM_FILES).
    enum SystemFile: UInt64 {
        case masterFileTable = 0
        case mirror = 1
        case logFile = 2
        case volume = 3
        case rootFolder = 5
        case bitmap = 6
        case boot = 7
        case badClusters = 8
    }

    /// "The attribute list attribute value has a maximum size of 256kb."
    private static let attributeListLimit: UInt64 = 256 << 10
    /// $MFTMirr contains at least the first four records.
    private static let mirroredCount: UInt64 = 4

    let volume: any BlockReader
    let boot: NTFSBootSector
    /// The contents of $MFT.
    private(set) var contents: NTFSStream
    /// Numbers of the first records that were read from the copy.
    private(set) var mirroredRecords: [UInt64] = []

    /// Locates all parts of $MFT, through its own records.
    init(_ volume: any BlockReader, _ boot: NTFSBootSector) throws(FilesystemError) {
        self.volume = volume
        self.boot = boot
        let first = try Self.record(0, volume, boot) { () throws(FilesystemError) in
            try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: boot.mftCluster * boot.clusterSize, count: Int(boot.recordSize))
            }
        }
        guard
            let data = try FilesystemError.parsing({ () throws(ParsingError) in
                try first.record.attribute(.data, lowestCluster: 0)
            }), case .clusters(let part) = data.content
        else { throw .damaged("its master file table has no contents") }
        var list = NTFSRunList()
        try FilesystemError.parsing { () throws(ParsingError) in
            try list.append(part, clusterCount: boot.clusterCount)
        }
        guard list.runs.first?.place == boot.mftCluster else {
            throw .damaged("its master file table does not start where the boot sector says")
        }
        contents = try NTFSStream(volume, boot, first: part, flags: data.flags, runList: list, isPartial: true)
        // The other parts are in records inside the parts before them.
        for entry in try attributeList(of: first.record) ?? []
        where entry.type == NTFSAttribute.Kind.data.rawValue && entry.name.isEmpty && entry.lowestCluster > 0 {
            if entry.record >= contents.runList.end * boot.clusterSize / boot.recordSize {
                contents = try NTFSStream(volume, boot, first: part, flags: data.flags, runList: list, isPartial: true)
            }
            guard case .clusters(let next)? = try attribute(entry, of: first.record)?.content else {
                throw .damaged("a part of its master file table is missing")
            }
            try FilesystemError.parsing { () throws(ParsingError) in
                try list.append(next, clusterCount: boot.clusterCount)
            }
        }
        contents = try NTFSStream(volume, boot, first: part, flags: data.flags, runList: list)
        guard contents.flags == 0, !contents.hasHoles else { throw .damaged("its master file table has holes") }
        if first.isFromMirror { mirroredRecords.append(0) }
        for number in 1..<Self.mirroredCount where try recordOrCopy(number).isFromMirror {
            mirroredRecords.append(number)
        }
    }

    // MARK: Records

    /// A system file's record.
    func record(_ file: SystemFile) throws(FilesystemError) -> NTFSRecord { try record(file.rawValue) }

    /// The record of that number; for a bad one of the first four, its copy.
    func record(_ number: UInt64) throws(FilesystemError) -> NTFSRecord {
        try recordOrCopy(number).record
    }

    private func recordOrCopy(_ number: UInt64) throws(FilesystemError) -> (record: NTFSRecord, isFromMirror: Bool) {
        guard number < contents.initializedByteCount / boot.recordSize else {
            throw .damaged("file record \(number) lies outside of its master file table")
        }
        return try Self.record(number, volume, boot) { () throws(FilesystemError) in
            try contents.read(at: number * boot.recordSize, count: Int(boot.recordSize))
        }
    }

    private static func record(
        _ number: UInt64, _ volume: any BlockReader, _ boot: NTFSBootSector,
        reading read: () throws(FilesystemError) -> [UInt8]
    ) throws(FilesystemError) -> (record: NTFSRecord, isFromMirror: Bool) {
        do throws(FilesystemError) {
            let raw = try read()
            return (
                try FilesystemError.parsing { () throws(ParsingError) in try NTFSRecord(raw, number: number) }, false
            )
        } catch {
            // An unreadable sector is tolerated as well if there is a copy.
            guard number < mirroredCount,
                let raw = try? volume.readBytes(
                    at: boot.mirrorCluster * boot.clusterSize + number * boot.recordSize, count: Int(boot.recordSize)),
                let record = try? NTFSRecord(raw, number: number)
            else { throw error }
            return (record, true)
        }
    }

    // MARK: Attributes

    /// An attribute of a file with all its parts, including those in other records; `nil` if the file has none.
    func stream(
        of record: NTFSRecord, _ type: NTFSAttribute.Kind, name: String = ""
    ) throws(FilesystemError) -> NTFSStream? {
        guard let list = try attributeList(of: record) else {
            let only = try FilesystemError.parsing { () throws(ParsingError) in
                try record.attribute(type, name: name)
            }
            var parts = StreamParts(boot)
            if let only { try parts.append(only) }
            return try parts.stream(volume)
        }
        var parts = StreamParts(boot)
        for entry in list where entry.type == type.rawValue && entry.name == Array(name.utf16) {
            guard let part = try attribute(entry, of: record) else {
                throw .damaged("an attribute of file record \(record.number) is missing")
            }
            try parts.append(part)
        }
        return try parts.stream(volume)
    }

    /// Collects the parts of an attribute in order, keeping only the places of its clusters.
    private struct StreamParts {
        private let boot: NTFSBootSector
        private var first: NTFSAttribute?
        private var list = NTFSRunList()

        init(_ boot: NTFSBootSector) { self.boot = boot }

        mutating func append(_ part: NTFSAttribute) throws(FilesystemError) {
            switch part.content {
            case .resident:
                guard first == nil else { throw .damaged("a resident attribute has several parts") }
            case .clusters(let clusters):
                if case .resident = first?.content { throw .damaged("a resident attribute has several parts") }
                try FilesystemError.parsing { () throws(ParsingError) in
                    try list.append(clusters, clusterCount: boot.clusterCount)
                }
            }
            if first == nil { first = part }
        }

        /// The complete attribute; `nil` without parts.
        func stream(_ volume: any BlockReader) throws(FilesystemError) -> NTFSStream? {
            guard let first else { return nil }
            return switch first.content {
            case .resident(let bytes): NTFSStream(volume, resident: bytes, flags: first.flags)
            case .clusters(let part): try NTFSStream(volume, boot, first: part, flags: first.flags, runList: list)
            }
        }
    }

    /// The place of one part of an attribute (ATTR_LIST_ENTRY).
    private struct ListEntry {
        let type: UInt32
        let name: [UInt16]
        let lowestCluster: UInt64
        let record: UInt64
        let sequenceNumber: UInt16
    }

    /// All of a file's attributes, ordered by type, name and cluster; `nil` if all are in its record.
    private func attributeList(of record: NTFSRecord) throws(FilesystemError) -> [ListEntry]? {
        let attribute = try FilesystemError.parsing { () throws(ParsingError) in
            try record.attribute(.attributeList)
        }
        let bytes: [UInt8]
        switch attribute?.content {
        case nil: return nil
        case .resident(let value): bytes = value
        case .clusters(let part):
            // "If not resident, the vcn to lcn mapping array has to fit inside the base mft record."
            var list = NTFSRunList()
            try FilesystemError.parsing { () throws(ParsingError) in
                try list.append(part, clusterCount: boot.clusterCount)
            }
            let stream = try NTFSStream(volume, boot, first: part, flags: attribute?.flags ?? 0, runList: list)
            guard stream.byteCount <= Self.attributeListLimit, stream.initializedByteCount == stream.byteCount else {
                throw .damaged("the attribute list of file record \(record.number) is too long")
            }
            bytes = try stream.read(at: 0, count: Int(stream.byteCount))
        }
        return try FilesystemError.parsing { () throws(ParsingError) in try Self.entries(bytes) }
    }

    private static func entries(_ bytes: [UInt8]) throws(ParsingError) -> [ListEntry] {
        var result: [ListEntry] = []
        var offset = 0
        while offset < bytes.count {
            let length = Int(try bytes.littleEndian(UInt16.self, at: offset + 4))
            guard length >= 26, length <= bytes.count - offset else {
                throw .invalid(what: "the length of an entry of an attribute list")
            }
            let entry = Array(bytes[offset..<offset + length])
            let nameOffset = Int(try entry.littleEndian(UInt8.self, at: 7))  // name_offset
            var name: [UInt16] = []
            for index in 0..<Int(try entry.littleEndian(UInt8.self, at: 6)) {  // name_length
                name.append(try entry.littleEndian(at: nameOffset + 2 * index))
            }
            let reference = try entry.littleEndian(UInt64.self, at: 16)  // mft_reference
            result.append(
                ListEntry(
                    type: try entry.littleEndian(at: 0), name: name, lowestCluster: try entry.littleEndian(at: 8),
                    record: reference & 0xFFFF_FFFF_FFFF, sequenceNumber: UInt16(reference >> 48)))
            offset += length
        }
        return result
    }

    private func attribute(_ entry: ListEntry, of base: NTFSRecord) throws(FilesystemError) -> NTFSAttribute? {
        var holder = base
        if entry.record != base.number {
            holder = try record(entry.record)
            guard holder.baseNumber == base.number else {
                throw .damaged("file record \(entry.record) does not belong to \(base.number)")
            }
        }
        guard entry.sequenceNumber == holder.sequenceNumber else {
            throw .damaged("file record \(entry.record) was given to another file")
        }
        let matches = holder.attributes.filter {
            $0.type == entry.type && $0.name == entry.name && $0.lowestCluster == entry.lowestCluster
        }
        guard matches.count <= 1 else { throw .damaged("file record \(entry.record) has an attribute twice") }
        return matches.first
    }
}
