// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// An image in a file: both ends can be checked without reading the rest.
package struct ImageFile: Sendable {
    /// The path.
    package let path: FilePath
    /// The header.
    package let header: ImageHeader
    /// The footer.
    package let footer: ImageFooter
    /// The late facts.
    package let lateFacts: LateFacts
    /// Whether it is encrypted.
    package let isEncrypted: Bool

    /// Opens an image and checks its header, index and footer.
    /// - Parameters:
    ///   - cancellation: ends a read that a signal interrupts.
    ///   - unlock: asked for the keys of an encrypted image.
    package init(
        _ path: FilePath, cancellation: Cancellation = Cancellation(),
        unlock: EncryptedImage.Unlock = EncryptedImage.withoutPassword
    ) throws(ImageError) {
        self.path = path
        let name = path.string
        let file = try Self.openForStreaming(path.string)
        let byteCount: UInt64
        do { byteCount = UInt64(max(0, try Stat(file.raw).size)) } catch {
            throw .system(SystemCallError("inspect", name, error))
        }
        let stream = try ImageStreamReader(file.raw, name: name, cancellation: cancellation, unlock: unlock)
        header = stream.header
        isEncrypted = stream.isEncrypted
        let footerByteCount = UInt64(stream.framing.frameByteCount(ImageFormat.footerByteCount))
        guard byteCount > footerByteCount else { throw .truncated(name: name, at: byteCount) }
        let reader = PositionedReader(file: file.raw, name: name, at: byteCount - footerByteCount)
        func footerFound(at offset: UInt64) throws(ImageError) -> ImageFooter? {
            reader.position = offset
            let payload = try reader.unlessDamaged { reader throws(ImageError) in
                try stream.framing.payload(.footer, limit: ImageFormat.footerByteCount, from: reader)
            }
            return payload.flatMap { try? ImageFooter(payload: $0) }
        }
        guard let found = try footerFound(at: byteCount - footerByteCount) else {
            throw try StrayBytes.error(
                name: name, byteCount: byteCount, frameHead: stream.framing.footerFrameHead,
                frameByteCount: Int(footerByteCount),
                bytes: { offset, count throws(ImageError) in
                    reader.position = offset
                    return try reader.bytes(count)
                }, footer: footerFound)
        }
        guard found.fileByteCount == byteCount, found.indexOffset < byteCount else {
            throw .damaged(
                name: name, what: "the footer's length", fileOffset: byteCount - footerByteCount, disk: nil,
                partition: nil)
        }
        reader.position = found.indexOffset
        let end = try ImageEnd(
            from: reader, stream.framing, recordCount: found.recordCount, headerIdentity: stream.headerIdentity)
        footer = end.footer
        lateFacts = end.lateFacts
    }

    /// Opens an image for sequential reading: a file, or standard input if `path` is `-`.
    package static func openForStreaming(_ path: String) throws(ImageError) -> OwnedDescriptor {
        do {
            return path == "-"
                ? OwnedDescriptor(owning: try FileDescriptor.standardInput.duplicate())
                : try OwnedDescriptor.open(FilePath(path), .readOnly)
        } catch let error as SystemCallError {
            throw .system(error)
        } catch {
            throw .system(SystemCallError("open", path, error as? Errno ?? .ioError))
        }
    }
}

/// Positioned reads of a file.
final class PositionedReader: FrameSource {
    private let file: FileDescriptor
    private let calls: PendingCalls
    var name: String { calls.name }
    var position: UInt64

    init(file: FileDescriptor, name: String, at position: UInt64) {
        self.file = file
        calls = PendingCalls(name, on: file)
        self.position = position
    }

    func bytes(_ byteCount: Int) throws(ImageError) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: byteCount)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try Self.fill(buffer, file, at: position, calls) }
        }
        try outcome.get()
        position += UInt64(byteCount)
        return result
    }

    /// The result of `body`; `nil` if the bytes are damaged or missing. A failed system call is an error.
    func unlessDamaged<Result>(
        _ body: (PositionedReader) throws(ImageError) -> Result
    ) throws(ImageError) -> Result? {
        do { return try body(self) } catch .damaged, .truncated { return nil }
    }

    /// Fills all of `target` from an offset of a file.
    static func fill(
        _ target: UnsafeMutableRawBufferPointer, _ file: FileDescriptor, at offset: UInt64, _ calls: PendingCalls
    ) throws(ImageError) {
        guard let start = Int64(exactly: offset), start <= Int64.max - Int64(target.count) else {
            throw .truncated(name: calls.name, at: offset)
        }
        var done = 0
        while done < target.count {
            let part: Int
            do {
                part = try calls.during(.read) {
                    unsafe try file.read(
                        fromAbsoluteOffset: start + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
                }
            } catch {
                throw .system(SystemCallError("read", calls.name, error as? Errno ?? .ioError))
            }
            guard part > 0 else { throw .truncated(name: calls.name, at: offset + UInt64(done)) }
            done += part
        }
    }
}
