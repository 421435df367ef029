// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Reads a raw image that somebody else made, plain or in an .xz or .zst file, as a capture of one region: the whole
/// disk, with the layout that it has.
///
/// Nothing says what its chunks should hash to; hashes are made of what was read. The checksums of .xz and .zst are
/// checked on the way.
package final class ForeignImageReader: ImageReader {
    /// The length of a chunk in bytes.
    package static let chunkByteCount = 4 << 20
    /// How much of the disk is looked at for its table, in bytes.
    private static let headByteCount: UInt64 = 1 << 20

    /// The path.
    package let name: String
    /// Made up: one region, all in use.
    package let header: ImageHeader
    /// Contents as they are.
    package let coding = ChunkCoding(codec: .stored)
    /// `nil` until the end was reached.
    package private(set) var ending: ImageEnding?
    /// Where the reader is in the file.
    package var position: UInt64 { source.position }

    private let file: FileBytes
    private let source: ForeignImageSource
    private var identity = ContentHash.Running()
    private var diskPosition: UInt64 = 0
    private var content: [UInt8]
    private var last: ChunkRecord?

    /// Opens a raw image. A .zst file is decompressed once for its length, which checks all of it; an .xz file has an index.
    /// - Parameters:
    ///   - kind: one of the foreign ones; found out where it is `nil`.
    ///   - sectorSize: the logical sector size of the disk that it holds.
    ///   - cancellation: ends decompressing.
    ///   - log: is told what takes long.
    ///   - table: what the first MiB of the disk shows (zeros stand for the rest); what partitions it lists is left out,
    ///     for the disk goes back as it is.
    package init(
        _ path: FilePath, kind: ImageFileKind? = nil, sectorSize: Int = 512,
        cancellation: Cancellation = Cancellation(), log: (String) -> Void = { _ in },
        table: (any BlockReader) -> PartitionTable? = { _ in nil }
    ) throws(ImageError) {
        name = path.string
        file = try FileBytes(path)
        let kind = if let kind { kind } else { try ImageFileKind.detect(path) }
        let measured: Measured
        switch kind {
        case .foreignRaw:
            let head = try file.bytes(at: 0, count: Int(min(file.byteCount, Self.headByteCount)))
            measured = Measured(byteCount: file.byteCount, head: head, isUnchecked: true)
        case .foreignXZ: measured = try Self.measureXZ(file, cancellation)
        case .foreignZstd:
            log("reading \(path) once for the length of what it holds, and to check it")
            measured = try Self.measure(file, kind, cancellation)
        case .unknown(let why): throw .foreign(name: path.string, why: why)
        default: throw .foreign(name: path.string, why: "it is not a raw image")
        }
        guard measured.byteCount > 0, measured.byteCount % UInt64(max(512, sectorSize)) == 0 else {
            throw .foreign(
                name: path.string,
                why: "a raw image is whole sectors of \(sectorSize) bytes, and it holds \(measured.byteCount) bytes")
        }
        header = try Self.header(file, measured, sectorSize, table)
        do {
            source = try ForeignImageSource(file, kind, cancellation)
            identity.update(try header.payload())
        } catch {
            throw .foreign(name: path.string, why: "\(error)")
        }
        content = [UInt8](repeating: 0, count: Self.chunkByteCount)
    }

    /// The next chunk, read and hashed; `nil` at the end.
    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        if ending != nil { return nil }
        let byteCount = header.manifest.geometry.byteCount
        last = nil
        guard diskPosition < byteCount else {
            try checkEnd()
            ending = ImageEnding(id: identity.finish(), lateFacts: LateFacts(ended: header.manifest.started))
            return nil
        }
        let range = diskPosition..<min(byteCount, diskPosition + UInt64(Self.chunkByteCount))
        let count = try fill(Int(range.byteCount))
        guard count == Int(range.byteCount) else { throw .truncated(name: name, at: source.position) }
        let hash = unsafe content.withUnsafeBytes { content -> ContentHash? in
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: content[..<count])
            return unsafe ZeroTest.isZero(bytes) ? nil : ContentHash(of: bytes)
        }
        let record = ChunkRecord(
            kind: hash == nil ? .zero : .data, region: 0, range: range, storedByteCount: hash == nil ? 0 : count,
            hash: hash)
        identity.update(record.payload)
        diskPosition = range.upperBound
        last = record
        return record
    }

    /// Gives the content of the last chunk.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let last, last.storedByteCount == buffer.count else { return }
        unsafe buffer.copyBytes(from: content[..<buffer.count])
    }

    /// The content passes by only once.
    package func storedFetch() -> StoredFetch? { nil }

    /// Makes errors about bytes of the disk; which partition they belong to is not known.
    package var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError {
        { [name] what, fileOffset, range in
            let place = range.map { "; this concerns bytes \($0.lowerBound) to \($0.upperBound) of the disk" } ?? ""
            return .damaged(name: name, what: what + place, fileOffset: fileOffset, disk: nil, partition: nil)
        }
    }

    private func fill(_ count: Int) throws(ImageError) -> Int {
        let result = unsafe content.withUnsafeMutableBytes { content in
            Result { () throws(ImageError) in
                unsafe try source.read(into: UnsafeMutableRawBufferPointer(rebasing: content[..<count]))
            }
        }
        return try result.get()
    }

    /// Nothing follows, and the file is the one that was opened.
    private func checkEnd() throws(ImageError) {
        guard try fill(1) == 0 else { throw damageReporter("it holds more than its index says", source.position, nil) }
        let now = try FileBytes(FilePath(name))
        guard now.byteCount == file.byteCount, now.changed == file.changed else {
            throw damageReporter("it was changed while it was read", source.position, nil)
        }
    }
}

extension ForeignImageReader {
    /// What was found out about a file before it is read.
    private struct Measured {
        var byteCount: UInt64
        var head: [UInt8]
        var isUnchecked: Bool
    }

    /// The length by the index of an .xz file; and the head, decompressed.
    private static func measureXZ(
        _ file: FileBytes, _ cancellation: Cancellation
    ) throws(ImageError) -> Measured {
        func damaged(_ error: CodecError, _ offset: UInt64) -> ImageError {
            .damaged(name: file.name, what: "\(error)", fileOffset: offset, disk: nil, partition: nil)
        }
        let surveyor: XZFileSurveyor
        do { surveyor = try XZFileSurveyor(fileByteCount: file.byteCount) } catch { throw damaged(error, 0) }
        while let wanted = surveyor.wanted {
            guard wanted <= file.byteCount else { throw .truncated(name: file.name, at: file.byteCount) }
            let bytes = try file.bytes(at: wanted, count: Int(min(64 << 10, file.byteCount - wanted)))
            let result = unsafe bytes.withUnsafeBytes { bytes in
                Result { () throws(CodecError) in unsafe try surveyor.take(bytes) }
            }
            do { try result.get() } catch { throw damaged(error, wanted) }
            if cancellation.isRequested { throw .system(SystemCallError("read", file.name, .interrupted)) }
        }
        let source: ForeignImageSource
        do { source = try ForeignImageSource(file, .foreignXZ, cancellation) } catch { throw damaged(error, 0) }
        let head = try read(source, Int(min(headByteCount, surveyor.contentByteCount)))
        return Measured(
            byteCount: surveyor.contentByteCount, head: head, isUnchecked: source.hasUncheckedParts)
    }

    /// The length by decompressing everything once.
    private static func measure(
        _ file: FileBytes, _ kind: ImageFileKind, _ cancellation: Cancellation
    ) throws(ImageError) -> Measured {
        let source: ForeignImageSource
        do { source = try ForeignImageSource(file, kind, cancellation) } catch {
            throw .foreign(name: file.name, why: "\(error)")
        }
        let head = try read(source, Int(headByteCount))
        var byteCount = UInt64(head.count)
        // A head that is not full is all there is.
        while byteCount >= headByteCount {
            let part = try read(source, 1 << 20)
            byteCount += UInt64(part.count)
            if part.count < 1 << 20 { break }
            guard byteCount <= 1 << 60 else { throw .foreign(name: file.name, why: "it holds more than any disk") }
        }
        return Measured(byteCount: byteCount, head: head, isUnchecked: source.hasUncheckedParts)
    }

    private static func read(_ source: ForeignImageSource, _ count: Int) throws(ImageError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let result = unsafe bytes.withUnsafeMutableBytes { bytes in
            Result { () throws(ImageError) in unsafe try source.read(into: bytes) }
        }
        return Array(bytes.prefix(try result.get()))
    }

    /// A header for the same file is always the same, so that an interrupted restore knows it again.
    private static func header(
        _ file: FileBytes, _ measured: Measured, _ sectorSize: Int, _ table: (any BlockReader) -> PartitionTable?
    ) throws(ImageError) -> ImageHeader {
        var facts = Array("reforge foreign image".utf8)
        for number in [
            measured.byteCount, file.byteCount, UInt64(bitPattern: file.changed.seconds),
            UInt64(bitPattern: file.changed.nanoseconds),
        ] { facts.appendLittleEndian(number) }
        let uuidBytes = Array(ContentHash(of: facts + measured.head).bytes.prefix(16))
        guard let uuid = try? GUID(bigEndianBytes: uuidBytes) else {
            throw .foreign(name: file.name, why: "it has no identity")
        }
        let all = 0..<measured.byteCount
        let head = ForeignImageHead(
            bytes: measured.head, byteCount: measured.byteCount, logicalSectorSize: sectorSize, name: file.name)
        var shown = table(head) ?? PartitionTable(kind: .unknown, usable: all)
        switch shown.kind {
        // The table goes back with the rest, and is not touched.
        case .gpt: shown = PartitionTable(kind: .unknown, unknownKindName: "GPT", usable: all)
        case .mbr: shown = PartitionTable(kind: .unknown, unknownKindName: "MBR", usable: all)
        case .unknown, .none:
            shown = PartitionTable(kind: shown.kind, unknownKindName: shown.unknownKindName, usable: all)
        }
        var manifest = Manifest(
            imageUUID: uuid, captureSet: .init(uuid: uuid), toolVersion: "",
            machine: MachineFacts(architecture: "unknown", firmware: "unknown"),
            disk: DiskIdentity(path: file.name, transport: "file"),
            geometry: DiskGeometry(
                byteCount: measured.byteCount, logicalSectorSize: sectorSize, physicalSectorSize: sectorSize),
            table: shown, tableHead: [], tableTail: [], boot: BootSurvey(),
            regions: [.init(kind: .disk, range: all, usedByteCount: measured.byteCount)],
            chunkByteCount: chunkByteCount, level: 0, allSectors: true, mountedReadWrite: [],
            usedByteCount: measured.byteCount, started: SystemFacts.utcText(file.changed.seconds),
            localOffsetSeconds: 0,
            warnings: measured.isUnchecked
                ? ["\(file.name) carries no checksums of all its contents: damage in it cannot be noticed"] : [])
        manifest.codec = "stored"
        if let contradiction = manifest.contradiction(codec: "stored") {
            throw .foreign(name: file.name, why: "as a disk, it would have \(contradiction)")
        }
        return ImageHeader(manifest: manifest, maps: [.whole(byteCount: measured.byteCount)])
    }
}
