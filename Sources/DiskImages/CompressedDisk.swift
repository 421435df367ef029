// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// Opens a raw image in a compressed file, which has no random access.
///
/// The file is decompressed once: to check it, to find the disk's length, and into a scratch file with random access.
/// Without space for the scratch file, the disk can be read only front to back.
enum CompressedDisk {
    /// The length of one decompression step, in bytes.
    private static let pieceByteCount = 1 << 20
    /// The largest plausible length of a disk, in bytes.
    private static let longest: UInt64 = 1 << 60

    static func open(_ request: DiskRequest) throws(ImageError) -> any DiskFile {
        let content = try PieceContent(try PieceStream.find(from: request.path), request.cancellation)
        let (files, name) = (content.files, content.name)
        var scratch = request.scratch.flatMap { try? DiskScratch(in: $0, memoryReserve: request.memoryReserve) }
        request.log(
            "reading \(name) once, to check it" + (scratch.map { " and to decompress it into \($0.folder)" } ?? "")
        )
        var byteCount: UInt64 = 0
        while case let piece = try content.next(pieceByteCount), !piece.isEmpty {
            // POSIX ustar: a boot sector has nothing like it there.
            if byteCount == 0, piece.dropFirst(257).starts(with: Array("ustar".utf8)) {
                throw .foreign(name: name, why: "it holds an archive of files (tar), not a disk")
            }
            if let open = scratch, !open.write(piece, at: byteCount) {
                request.log("\(open.folder) has too little room for the contents of \(name)")
                scratch = nil
            }
            byteCount += UInt64(piece.count)
            request.progress(content.position)
            guard byteCount <= longest else { throw .foreign(name: name, why: "it holds more than any disk") }
        }
        guard byteCount > 0, byteCount % 512 == 0 else {
            throw .foreign(
                name: name, why: "a raw image consists of whole sectors of 512 bytes, and it holds \(byteCount) bytes")
        }
        guard let first = files.first else { throw .foreign(name: name, why: "it has no pieces") }
        let facts = DiskFacts(
            file: try first.open(), files: files, byteCount: byteCount, hasUncheckedParts: content.hasUncheckedParts)
        try content.confirmUnchanged()
        guard let scratch else { return StreamedDisk(facts, request.cancellation) }
        do throws(SystemCallError) { try scratch.finish(byteCount) } catch {
            request.log("\(scratch.name) cannot be used: \(error)")
            return StreamedDisk(facts, request.cancellation)
        }
        return SpooledDisk(facts, scratch)
    }
}

/// The facts of a disk in a compressed file.
struct DiskFacts: Sendable {
    /// The first piece.
    var file: FileBytes
    /// All pieces.
    var files: [PieceFile]
    /// The length of the disk in bytes.
    var byteCount: UInt64
    var hasUncheckedParts: Bool
}
