// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// The content of a volume, front to back. Used by one thread at a time.
protocol VolumeStream: AnyObject, Sendable {
    var content: PieceContent { get }
    /// The length of the volume in bytes.
    var byteCount: UInt64 { get }
    /// The bytes of the volume that the stream holds.
    var used: AllocationMap { get }
    /// Fills `target`; zeros stand for bytes outside `used`. Offsets ascend from call to call.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError)
    /// Reads and checks the rest of the stream.
    func finish() throws(ImageError)
}

/// A raw image of a volume.
final class RawVolume: VolumeStream, @unchecked Sendable {
    // @unchecked: one thread at a time uses it.
    let content: PieceContent
    let byteCount: UInt64
    var used: AllocationMap { .whole(byteCount: byteCount) }

    /// - Parameter byteCount: the room for it, which it must fill.
    init(_ content: PieceContent, byteCount: UInt64) {
        self.content = content
        self.byteCount = byteCount
    }

    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) {
        let distance = offset - min(offset, content.contentPosition)
        guard try content.skip(distance) == distance, unsafe try content.read(into: target) == target.count else {
            throw .damaged(
                name: content.name,
                what: "it ends after \(content.contentPosition) of \(byteCount) bytes of its volume",
                fileOffset: content.position, disk: nil, partition: nil)
        }
    }

    func finish() throws(ImageError) {
        let distance = byteCount - min(byteCount, content.contentPosition)
        guard try content.skip(distance) == distance else {
            throw .truncated(name: content.name, at: content.position)
        }
        guard try content.skip(1) == 0 else {
            throw .damaged(
                name: content.name, what: "it is longer than its volume of \(byteCount) bytes",
                fileOffset: content.position, disk: nil, partition: nil)
        }
        try content.confirmUnchanged()
    }
}
