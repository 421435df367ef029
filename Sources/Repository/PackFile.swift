// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// A pack that is open for reading, from any thread.
final class PackFile: Sendable {
    let name: StoreName
    private let file: StoreFile
    private let secrets: RepositorySecrets

    /// Opens a pack and checks that its head has this name and repository.
    init(_ name: StoreName, _ store: StoreAccess, _ secrets: RepositorySecrets) throws(ImageError) {
        self.name = name
        self.secrets = secrets
        file = try store.open(.pack(name))
        let head = try file.bytes(at: 0, count: PackFormat.headFrameByteCount)
        guard head[..<8] == ImageFormat.frame([UInt8](repeating: 0, count: head.count - 8))[..<8] else {
            throw .damagedFile(file.name, "it does not start like a pack")
        }
        try secrets.check(Array(head[8...]), RepositoryFormat.packHeaderTag, name: name, path: file.name)
    }

    var path: String { file.name }
    var byteCount: UInt64 { file.byteCount }

    /// Fills `buffer` with the stored bytes of a content.
    func read(_ location: BlobLocation, into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard buffer.count == Int(location.storedByteCount) else {
            throw .damagedFile(file.name, "a content of another length", at: UInt64(location.offset))
        }
        unsafe try file.read(into: buffer, at: UInt64(location.offset))
    }

    /// The stored bytes of a content.
    func stored(_ location: BlobLocation) throws(ImageError) -> [UInt8] {
        try file.bytes(at: UInt64(location.offset), count: Int(location.storedByteCount))
    }

    /// Whether the pack ends with a valid end frame, and so was not cut off.
    var isWhole: Bool { (try? checkEnd()) != nil }

    /// Whether a content's bytes are within the pack.
    func holds(_ location: BlobLocation) -> Bool {
        UInt64(location.offset) + UInt64(location.storedByteCount) <= byteCount
    }

    /// Checks the end of the pack, which confirms its length and name.
    /// - Returns: offset of the table, and number of contents in it.
    @discardableResult
    func checkEnd() throws(ImageError) -> (tableOffset: UInt64, count: UInt64) {
        let endFrame = UInt64(PackFormat.endFrameByteCount)
        guard byteCount >= UInt64(PackFormat.headFrameByteCount) + endFrame else {
            throw .truncated(name: path, at: byteCount)
        }
        let end = try file.bytes(at: byteCount - endFrame, count: PackFormat.endFrameByteCount)
        do {
            guard try end.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic,
                try end.littleEndian(UInt32.self, at: 4) == UInt32(PackFormat.endPayloadByteCount),
                Array(end[8..<16]) == RepositoryFormat.packEndTag
            else { throw ImageError.truncated(name: path, at: byteCount) }
            guard
                try end.littleEndian(UInt32.self, at: end.count - 4) == CRC32.iso.checksum(Array(end[8...].dropLast(4)))
            else { throw ParsingError.invalid(what: "the checksum of its end") }
            guard try end.littleEndian(UInt64.self, at: 32) == byteCount, try StoreName(end, at: 40) == name else {
                throw ParsingError.invalid(what: "its length or name in its end")
            }
            return (try end.littleEndian(at: 16), try end.littleEndian(at: 24))
        } catch {
            throw .about(file.name, error)
        }
    }

    /// The entries of the pack's table, in the order of the pack. Checks the end of the pack, and that the contents and
    /// their frames fill it without holes.
    func table() throws(ImageError) -> [IndexEntry] {
        let endFrame = UInt64(PackFormat.endFrameByteCount)
        let (tableOffset, count) = try checkEnd()
        do {
            let tableByteCount = try count.multiplied(by: UInt64(RepositoryFormat.entryByteCount), "its table")
            let frameByteCount = try tableByteCount.adding(
                UInt64(12 + RepositoryFormat.protectionByteCount), "its table")
            guard count <= UInt64(RepositoryFormat.largestPackBlobCount),
                try tableOffset.adding(frameByteCount, "its table") == byteCount - endFrame
            else { throw ParsingError.invalid(what: "the place of its table") }
            let frame = try file.bytes(at: tableOffset, count: Int(frameByteCount))
            guard try frame.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic,
                UInt64(try frame.littleEndian(UInt32.self, at: 4)) == frameByteCount - 8,
                Array(frame[8..<12]) == RepositoryFormat.packTableTag
            else { throw ParsingError.invalid(what: "the mark of its table") }
            let table = try secrets.protection.open(
                Array(frame[12...]), context: secrets.context("pack table", name.bytes))
            var entries: [IndexEntry] = []
            entries.reserveCapacity(Int(count))
            var position = UInt64(PackFormat.headFrameByteCount)
            for index in 0..<Int(count) {
                let entry = try PackFormat.tableEntry(
                    table, at: index * RepositoryFormat.entryByteCount, pack: name)
                let start = position + UInt64(PackFormat.recordFrameByteCount) + (secrets.isSealed ? 8 : 0)
                guard UInt64(entry.location.offset) == start, entry.location.storedByteCount > 0,
                    entry.location.contentByteCount < 1 << 28
                else { throw ParsingError.invalid(what: "the place of a content in its table") }
                position = start + UInt64(entry.location.storedByteCount)
                entries.append(entry)
            }
            guard position == tableOffset else { throw ParsingError.invalid(what: "the lengths in its table") }
            return entries
        } catch { throw .about(file.name, error, at: byteCount - endFrame) }
    }

    /// Compares the record and the frame before a content with its table entry: no other check reads these bytes.
    func checkRecord(_ entry: IndexEntry) throws(ImageError) {
        let frameHead = secrets.isSealed ? 8 : 0
        let count = PackFormat.recordFrameByteCount + frameHead
        let start = UInt64(entry.location.offset)
        guard start >= UInt64(count) else { throw .damagedFile(file.name, "a content without a record", at: start) }
        let bytes = try file.bytes(at: start - UInt64(count), count: count)
        do {
            guard try bytes.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic,
                Int(try bytes.littleEndian(UInt32.self, at: 4)) == PackFormat.recordFrameByteCount - 8,
                Array(bytes[8..<12]) == RepositoryFormat.packRecordTag
            else { throw ParsingError.invalid(what: "the mark of a record") }
            let context = secrets.context("pack record", name.bytes, part: start)
            let body = try secrets.protection.open(
                Array(bytes[12..<PackFormat.recordFrameByteCount]), context: context)
            guard body == PackFormat.tableEntry(entry) else { throw ParsingError.invalid(what: "a record") }
            if secrets.isSealed {
                guard try bytes.littleEndian(UInt32.self, at: count - 8) == ImageFormat.skippableMagic,
                    try bytes.littleEndian(UInt32.self, at: count - 4) == entry.location.storedByteCount
                else { throw ParsingError.invalid(what: "the frame of a content") }
            }
        } catch { throw .about(file.name, error, at: start) }
    }
}

/// The most recently opened packs: a reader alternates between a few.
final class PackCache: Sendable {
    private struct Held {
        var files: [StoreName: PackFile] = [:]
        /// Names, the most recently used one last.
        var order: [StoreName] = []
    }
    private let held = Monitor(Held())
    private let store: StoreAccess
    private let secrets: RepositorySecrets
    private static let capacity = 64

    init(_ store: StoreAccess, _ secrets: RepositorySecrets) {
        self.store = store
        self.secrets = secrets
    }

    func pack(_ name: StoreName) throws(ImageError) -> PackFile {
        let known = held.update { held -> PackFile? in
            guard let file = held.files[name] else { return nil }
            if held.order.last != name {
                held.order.removeAll { $0 == name }
                held.order.append(name)
            }
            return file
        }
        if let known { return known }
        let file = try PackFile(name, store, secrets)
        held.update { held in
            if held.files.updateValue(file, forKey: name) == nil { held.order.append(name) }
            while held.order.count > Self.capacity { held.files[held.order.removeFirst()] = nil }
        }
        return file
    }
}
