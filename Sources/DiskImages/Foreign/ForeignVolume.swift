// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// The stream of one part of a foreign disk: opened once for its map and its first bytes, and again for its content.
final class ForeignVolume: Sendable {
    let label: String
    let files: [PieceFile]
    /// The bytes of the volume that the stream holds.
    let used: AllocationMap
    /// Whether the stream is a raw image: every sector is there.
    let isRaw: Bool
    /// Whether nothing in the stream would show damage of its content.
    let isUnchecked: Bool
    /// Whether damage is found before the bytes are handed out, and not only at the end of the stream.
    let verifiesBeforeUse: Bool
    private let room: UInt64
    private let payload: ForeignPayload
    private let cancellation: Cancellation

    /// The part of a volume that is kept for its survey: superblocks and their neighbours, in bytes.
    private static let headByteCount: UInt64 = 4 << 20
    /// The data of a FAT that is kept, in bytes: its folders say how the disk boots, and lie anywhere.
    private static let fatByteCount: UInt64 = 64 << 20
    private static let pieceByteCount: UInt64 = 1 << 20

    /// - Parameters:
    ///   - room: the bytes of its places on the disk.
    ///   - keep: receives the first bytes of the volume, with their offset.
    init(
        _ label: String, _ stream: PieceStream, _ payload: ForeignPayload, room: UInt64, _ cancellation: Cancellation,
        keep: (UInt64, [UInt8]) throws(ImageError) -> Void
    ) throws(ImageError) {
        self.label = label
        self.room = room
        self.cancellation = cancellation
        let files = try PieceFile.open(stream)
        self.files = files
        let content = try PieceContent(files, cancellation)
        let found = try Self.payload(of: content, payload)
        self.payload = found
        let volume = try Self.volume(content, found, label, room)
        used = volume.used
        isRaw = volume is RawVolume
        try Self.readHead(of: volume, keep)
        verifiesBeforeUse = (volume as? PartcloneVolume)?.verifiesBeforeUse ?? false
        let hasOwnChecksums = (volume as? PartcloneVolume)?.hasChecksums ?? false
        isUnchecked = !hasOwnChecksums && content.hasUncheckedParts
    }

    /// The length of all pieces, in bytes.
    var storedByteCount: UInt64 { files.reduce(0) { $0.addingReportingOverflow($1.byteCount).partialValue } }

    /// The volume from its start.
    func open() throws(ImageError) -> any VolumeStream {
        try Self.volume(try PieceContent(files, cancellation), payload, label, room)
    }

    /// The kind of a stream, by its first bytes where it is not known.
    private static func payload(
        of content: PieceContent, _ payload: ForeignPayload
    ) throws(ImageError) -> ForeignPayload {
        let head = try content.peek(32)
        for (magic, name) in [("PaRtImAgE-VoLuMe", "partimage"), ("\0ntfsclone-image", "ntfsclone")]
        where head.starts(with: Array(magic.utf8)) {
            throw .refused(
                "\(content.name) is an image of \(name), which Reforge cannot read: restore it with \(name) onto a disk or a "
                    + "file, and capture that")
        }
        guard case .probe = payload else { return payload }
        return head.starts(with: PartcloneHeader.magic) ? .partclone : .raw
    }

    private static func volume(
        _ content: PieceContent, _ payload: ForeignPayload, _ label: String, _ room: UInt64
    ) throws(ImageError) -> any VolumeStream {
        guard case .partclone = payload else { return RawVolume(content, byteCount: room) }
        let volume = try PartcloneVolume(content, room: room)
        guard volume.byteCount <= room else {
            throw .foreign(
                name: content.name,
                why: "its volume has \(volume.byteCount) bytes, and its place on the disk (\(label)) only \(room)")
        }
        return volume
    }

    private static func readHead(
        of volume: any VolumeStream, _ keep: (UInt64, [UInt8]) throws(ImageError) -> Void
    ) throws(ImageError) {
        var limit = headByteCount
        var left = headByteCount
        var isFirst = true
        for range in volume.used.ranges {
            var position = range.lowerBound
            while position < range.upperBound, position < limit, left > 0 {
                let count = min(range.upperBound - position, pieceByteCount, limit - position, left)
                var bytes = [UInt8](repeating: 0, count: Int(count))
                let read = unsafe bytes.withUnsafeMutableBytes { bytes in
                    Result { () throws(ImageError) in unsafe try volume.read(into: bytes, at: position) }
                }
                try read.get()
                if isFirst, position == 0, isFAT(bytes) { (limit, left) = (volume.byteCount, fatByteCount) }
                isFirst = false
                try keep(position, bytes)
                position += count
                left -= count
            }
            if position >= limit || left == 0 { return }
        }
    }

    /// By the names in the boot sector (BS_FilSysType), only to decide how much is kept.
    private static func isFAT(_ bytes: [UInt8]) -> Bool {
        [54, 82].contains { bytes.dropFirst($0).starts(with: Array("FAT".utf8)) }
    }
}
