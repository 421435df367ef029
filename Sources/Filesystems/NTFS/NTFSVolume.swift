// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Reads files of an NTFS without mounting it, and locates their bytes.
///
/// Paths are separated by `\` or `/` and are case-insensitive; names outside of ASCII are not found.
package struct NTFSVolume: Sendable {
    private let mapper: NTFSMapper

    /// Opens the filesystem on `volume`.
    package init(_ volume: any BlockReader) throws(FilesystemError) {
        guard volume.byteCount >= 512 else { throw .notThisFormat("NTFS") }
        let sector = try FilesystemError.reading { () throws(BlockIOError) in try volume.readBytes(at: 0, count: 512) }
        guard let boot = (try? NTFSBootSector(sector)) ?? nil else { throw .notThisFormat("NTFS") }
        if let problem = boot.problem(volumeByteCount: volume.byteCount) { throw .damaged(problem) }
        mapper = try NTFSMapper(volume, boot)
    }

    /// Why nothing on it may be changed in place, as a sentence part: a log with changes, hibernated, fast startup.
    /// Windows continues with its own state then. `nil` if there is no reason.
    ///
    /// The dirty flag alone is none: ntfsresize sets it, after emptying the log, so that Windows checks the volume at its
    /// next start. A check does not change the contents of sound files.
    package func obstacleToChanges() throws(FilesystemError) -> String? {
        if !mapper.table.mirroredRecords.isEmpty { return "its first file records are damaged" }
        return try mapper.uncleanReason(acceptsDirtyFlag: true)
    }

    /// Whether there is a file or folder at a path.
    package func exists(_ path: String) throws(FilesystemError) -> Bool { try record(path) != nil }

    /// Which of these names, in lower case, a folder has.
    package func names(in folder: String, among names: Set<String>) throws(FilesystemError) -> Set<String> {
        guard let record = try record(folder), record.isFolder else { return [] }
        return try NTFSFolder(mapper.table, record, lookingFor: names).names
    }

    /// The contents of a file; `nil` if there is none at that path.
    /// - Parameter limit: the largest length in bytes that the caller accepts.
    package func readFile(_ path: String, limit: Int) throws(FilesystemError) -> [UInt8]? {
        guard let (_, data) = try contents(path, limit: limit) else { return nil }
        return try data.read(at: 0, count: Int(data.byteCount))
    }

    /// A file with the places of its bytes, which may then be changed in place; `nil` if there is none at that path.
    /// - Parameter limit: the largest length in bytes that the caller accepts.
    /// - Throws: `FilesystemError.unchangeable` if it is compressed, sparse, encrypted or resident, or leads elsewhere.
    package func placedFile(_ path: String, limit: Int) throws(FilesystemError) -> PlacedFile? {
        guard let (record, data) = try contents(path, limit: limit) else { return nil }
        // FILE_ATTR flags of ntfs-3g's layout.h: ATTR_COMPRESSION_MASK, ATTR_IS_ENCRYPTED, ATTR_IS_SPARSE.
        func refuse(_ reason: String) -> FilesystemError { .unchangeable(path: path, reason: reason) }
        if data.flags & 0x00FF != 0 { throw refuse("compressed") }
        if data.flags & 0x4000 != 0 { throw refuse("encrypted") }
        if data.flags & 0x8000 != 0 || data.hasHoles { throw refuse("sparse") }
        if data.flags != 0 { throw refuse("stored in an unknown way") }
        if data.resident != nil { throw refuse("stored in the master file table") }
        if try mapper.table.stream(of: record, .reparsePoint) != nil { throw refuse("a reparse point") }
        guard data.initializedByteCount == data.byteCount else { throw refuse("not written to its end") }
        return try PlacedFile(bytes: try data.read(at: 0, count: Int(data.byteCount)), ranges: data.ranges)
    }

    private func contents(
        _ path: String, limit: Int
    ) throws(FilesystemError) -> (record: NTFSRecord, data: NTFSStream)? {
        guard let record = try record(path) else { return nil }
        guard !record.isFolder, let data = try mapper.table.stream(of: record, .data) else {
            throw .wrongKind(path: path, isFolder: true)
        }
        guard data.byteCount <= UInt64(max(0, limit)) else {
            throw .tooLarge(path: path, byteCount: data.byteCount, limit: limit)
        }
        return (record, data)
    }

    /// The record of a path; `nil` without one.
    private func record(_ path: String) throws(FilesystemError) -> NTFSRecord? {
        var record = try mapper.table.record(.rootFolder)
        for component in path.split(whereSeparator: { $0 == "/" || $0 == "\\" }) {
            guard record.isFolder else { return nil }
            let name = component.lowercased()
            guard let next = try NTFSFolder(mapper.table, record, lookingFor: [name]).record(name) else { return nil }
            record = next
        }
        return record
    }
}
