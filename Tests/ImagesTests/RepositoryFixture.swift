// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

extension MadeUpDiskCapture {
    /// Captures it as a snapshot of a repository.
    @discardableResult
    func capture(into repository: Repository, host: String = "host") throws -> ImageSummary {
        let writer = try repository.writer(header: header, host: host, disk: "disk", tags: ["b", "a"], level: 3)
        return try #require(try capture(into: writer))
    }

    /// The bytes that a reader returns; checks the form of the records.
    static func read(_ reader: some ImageReader) throws -> [UInt8] {
        let manifest = reader.header.manifest
        var bytes = [UInt8](repeating: 0, count: Int(manifest.geometry.byteCount))
        let decoder = try ChunkDecoder(reader.coding)
        var position: UInt64 = 0
        var last: ChunkRecord?
        while let record = try reader.nextRecord() {
            #expect(record.range.lowerBound == position)
            position = record.range.upperBound
            if let last, last.kind == record.kind, last.kind != .data { #expect(last.region != record.region) }
            last = record
            guard record.kind == .data else {
                #expect(record.storedByteCount == 0 && record.hash == nil)
                continue
            }
            var stored = [UInt8](repeating: 0, count: record.storedByteCount)
            let fetch = try #require(reader.storedFetch())
            let otherCopies = reader.otherCopies()
            try bytes.withUnsafeMutableBytes { bytes in
                let content = UnsafeMutableRawBufferPointer(
                    rebasing: bytes[Int(record.range.lowerBound)..<Int(record.range.upperBound)])
                do {
                    try stored.withUnsafeMutableBytes { try fetch($0) }
                    try stored.withUnsafeBytes { try decoder.decode($0, id: record.hash, into: content) }
                } catch {
                    guard let otherCopies, otherCopies(content) else { throw error }
                }
            }
        }
        #expect(position == manifest.geometry.byteCount)
        #expect(reader.ending != nil)
        return bytes
    }
}

extension Repository {
    /// The contents of a snapshot, from a newly opened repository.
    static func restore(_ id: ContentHash, at path: FilePath, keys: MasterKeys?) throws -> [UInt8] {
        let repository = try Repository.open(LocalStore(path), keys: keys)
        return try MadeUpDiskCapture.read(try repository.reader(try repository.snapshot(id)))
    }

    /// Names of all files below, with their lengths.
    static func files(_ path: FilePath) throws -> [String: Int] {
        var result: [String: Int] = [:]
        for name in Files.names(in: path) {
            let child = path.appending(name)
            let status = try Stat(child)
            if status.type == .directory {
                for (inner, count) in try files(child) { result["\(name)/\(inner)"] = count }
            } else {
                result[name] = Int(status.size)
            }
        }
        return result
    }
}

/// Replaces a file without waiting for the medium: tests make thousands of damaged files.
func overwrite(_ path: FilePath, _ bytes: [UInt8]) throws {
    let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    try file.closeAfter { _ = try file.writeAll(bytes) }
}

extension Repository {
    /// The folder of a local repository.
    var path: FilePath { FilePath(name) }
    /// The paths of its files.
    var layout: RepositoryFiles { RepositoryFiles(local: LocalLayout(path)) }

    /// The files of a repository in a folder, for tests that damage them.
    struct RepositoryFiles {
        var local: LocalLayout
        var configuration: FilePath { local.path(.configuration) }
        var snapshots: FilePath { local.folder(.snapshot) }
        var marks: FilePath { local.folder(.mark) }
        func pack(_ name: StoreName) -> FilePath { local.path(.pack(name)) }
        func index(_ name: StoreName) -> FilePath { local.path(.index(name)) }
        func snapshot(_ id: ContentHash) -> FilePath { local.path(.snapshot(id)) }
    }
}
