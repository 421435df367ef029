// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Files named in a folder (INDEX_ROOT, INDEX_BLOCK, INDEX_ENTRY and FILE_NAME_ATTR of ntfs-3g's layout.h).
struct NTFSFolder {
    /// Some 600,000 names.
    private static let limit: UInt64 = 64 << 20

    private let table: NTFSMasterFileTable
    /// Record numbers and sequence numbers of the requested files, by their lower-case names.
    private var found: [String: (record: UInt64, sequenceNumber: UInt16)] = [:]

    /// Searches for files in the root folder.
    /// - Parameter names: in lower case, ASCII only.
    init(_ table: NTFSMasterFileTable, lookingFor names: Set<String>) throws(FilesystemError) {
        try self.init(table, try table.record(.rootFolder), lookingFor: names)
    }

    /// Searches for files in a folder.
    /// - Parameter names: in lower case, ASCII only.
    init(_ table: NTFSMasterFileTable, _ folder: NTFSRecord, lookingFor names: Set<String>) throws(FilesystemError) {
        self.table = table
        guard folder.isFolder, let root = try table.stream(of: folder, .indexRoot, name: "$I30")?.resident else {
            throw .damaged("a folder has no index")
        }
        let blockSize = try FilesystemError.parsing { () throws(ParsingError) in
            // INDEX_ROOT.type (a file name), index_block_size, and the header with offsets relative to itself.
            guard try root.littleEndian(UInt32.self, at: 0) == 0x30 else {
                throw .invalid(what: "the index of a folder")
            }
            try collect(root, headerAt: 16, names)
            return Int(try root.littleEndian(UInt32.self, at: 8))
        }
        guard let blocks = try table.stream(of: folder, .indexAllocation, name: "$I30"), blocks.byteCount > 0 else {
            return
        }
        guard (512...65536).contains(blockSize), blockSize.nonzeroBitCount == 1,
            blocks.byteCount % UInt64(blockSize) == 0, blocks.byteCount <= Self.limit,
            let bitmap = try table.stream(of: folder, .bitmap, name: "$I30")
        else { throw .damaged("the index of a folder is not valid") }
        // All used blocks, in the order of their places: no tree to follow, so no cycle is possible.
        let count = Int(blocks.byteCount) / blockSize
        let bits = try bitmap.read(at: 0, count: (count + 7) / 8)
        for index in 0..<count where bits[index / 8] >> UInt8(index % 8) & 1 == 1 {
            let raw = try blocks.read(at: UInt64(index * blockSize), count: blockSize)
            try FilesystemError.parsing { () throws(ParsingError) in
                try collect(try NTFSRecord.undoingUpdateSequence(raw, magic: "INDX"), headerAt: 24, names)
            }
        }
    }

    /// The requested names that the folder has.
    var names: Set<String> { Set(found.keys) }

    /// The record of a file; `nil` if no file has that name.
    func record(_ name: String) throws(FilesystemError) -> NTFSRecord? {
        guard let reference = found[name] else { return nil }
        let record = try table.record(reference.record)
        guard record.sequenceNumber == reference.sequenceNumber, record.baseNumber == 0 else {
            throw .damaged("\(name) leads to a record of another file")
        }
        return record
    }

    /// Reads the entries behind an INDEX_HEADER.
    private mutating func collect(
        _ bytes: [UInt8], headerAt header: Int, _ names: Set<String>
    ) throws(ParsingError) {
        var offset = header + Int(try bytes.littleEndian(UInt32.self, at: header))  // entries_offset
        let end = header + Int(try bytes.littleEndian(UInt32.self, at: header + 4))  // index_length
        guard end <= bytes.count else { throw .invalid(what: "the length of an index") }
        // INDEX_ENTRY_END has no key.
        while try bytes.littleEndian(UInt16.self, at: offset + 12) & 2 == 0 {
            let length = Int(try bytes.littleEndian(UInt16.self, at: offset + 8))
            guard length >= 16 + 66, length <= end - offset else { throw .invalid(what: "an entry of an index") }
            let entry = Array(bytes[offset..<offset + length])
            var name: [UInt16] = []
            for index in 0..<Int(try entry.littleEndian(UInt8.self, at: 16 + 64)) {  // file_name_length
                name.append(try entry.littleEndian(at: 16 + 66 + 2 * index))  // file_name
            }
            let text = String(decoding: name.map { (65...90).contains($0) ? $0 + 32 : $0 }, as: UTF16.self)
            if names.contains(text) {
                let reference = try entry.littleEndian(UInt64.self, at: 0)  // indexed_file
                let file = (record: reference & 0xFFFF_FFFF_FFFF, sequenceNumber: UInt16(reference >> 48))
                // On Linux, names that differ only in case are different files.
                if let other = found[text], other != file { throw .invalid(what: "the second file \(text)") }
                found[text] = file
            }
            offset += length
        }
    }
}
