// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// A single partclone image, in one file or in pieces, compressed or not: a disk without a partition table.
enum PartcloneFile {
    static let format = FolderFormat(
        name: "partclone image",
        recognize: { path throws(ImageError) in try recognize(path, try FileHead(path).bytes) },
        disks: { path throws(ImageError) in [path.lastComponent?.string ?? path.string] },
        open: { path, _ throws(ImageError) in try open(path) })

    /// - Parameter head: the first bytes of the file.
    /// - Throws: `ImageError.refused` if the file is a later piece, or the program that decompresses it is missing.
    static func recognize(_ path: FilePath, _ head: [UInt8]) throws(ImageError) -> Bool {
        if head.starts(with: PartcloneHeader.magic) { return true }
        let stream = try PieceStream.find(from: path)
        let compression = Compression.detect(head)
        if case .plain = compression.decoder { return false }
        // Only a few bytes are read; damage behind them is found later, by the format that the file turns out to have.
        guard let content = try? PieceContent(stream, Cancellation()) else {
            _ = try PieceContent(stream, Cancellation())
            return false
        }
        return ((try? content.peek(PartcloneHeader.magic.count)) ?? []) == PartcloneHeader.magic
    }

    private static func open(_ path: FilePath) throws(ImageError) -> ForeignDisk {
        let stream = try PieceStream.find(from: path)
        let header = try PartcloneVolume.readHeader(try PieceContent(stream, Cancellation()))
        // Version 0001 does not state how long an NTFS is, only its blocks: its boot sector does. Damage is reported by
        // those who read the volume.
        let volume =
            header.version > 1
            ? nil : try? PartcloneVolume(try PieceContent(stream, Cancellation()), room: .max)
        let length = volume?.byteCount ?? header.deviceByteCount
        guard let byteCount = length.roundedUp(toMultipleOf: 512) else {
            throw .unsupported(name: path.string, what: "a volume of \(length) bytes")
        }
        return ForeignDisk(
            name: path.string, format: "partclone", geometry: DiskGeometry(byteCount: byteCount),
            identity: DiskIdentity(path: path.string, transport: "file"),
            parts: [
                ForeignPart(label: header.filesystem, segments: [0..<byteCount], content: .stream(stream, .partclone))
            ], files: stream.pieces)
    }
}
