// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage

/// An image in a file: its ends can be looked at without reading what lies between.
public struct ImageFile: Sendable {
    /// The path.
    public let path: FilePath
    /// The header.
    public let header: ImageHeader
    /// The footer.
    public let footer: ImageFooter
    /// The late facts.
    public let lateFacts: LateFacts

    /// Opens an image and checks its header, index and footer.
    public init(_ path: FilePath) throws(ImageError) {
        self.path = path
        let name = path.string
        let file = try Self.openForStreaming(path.string)
        let byteCount: UInt64
        do { byteCount = UInt64(max(0, try Stat(file.raw).size)) } catch {
            throw .system(SystemCallError("inspect", name, error))
        }
        let stream = try ImageStreamReader(file.raw, name: name)
        header = stream.header
        let footerFrame = 8 + ImageFormat.footerByteCount
        let reader = PositionedReader(file: file.raw, name: name, byteCount: byteCount)
        do {
            guard byteCount > UInt64(footerFrame) else { throw ImageError.truncated(name: name, at: byteCount) }
            let end = try reader.frame(at: byteCount - UInt64(footerFrame), limit: ImageFormat.footerByteCount)
            footer = try ImageFooter(payload: end.payload)
        } catch let error as ImageError {
            throw error
        } catch {
            // No footer at the end: the usual cause is a copy that was cut off.
            throw .truncated(name: name, at: byteCount)
        }
        do {
            guard footer.fileByteCount == byteCount else { throw ParsingError.invalid(what: "the footer's length") }
            var identity = stream.headerIdentity
            var position = footer.indexOffset
            var count: UInt64 = 0
            while count < footer.recordCount {
                let (payload, next) = try reader.frame(
                    at: position, limit: 4 + ImageFormat.indexEntriesPerFrame * ImageFormat.indexEntryByteCount)
                let entries = Array(payload.dropFirst(4))
                guard Array(payload.prefix(4)) == ImageFormat.indexTag, !entries.isEmpty,
                    entries.count % ImageFormat.indexEntryByteCount == 0
                else { throw ParsingError.invalid(what: "the index") }
                identity.update(entries)
                count += UInt64(entries.count / ImageFormat.indexEntryByteCount)
                position = next
            }
            guard count == footer.recordCount, identity.finish() == footer.imageID, position == footer.lateFactsOffset
            else {
                throw ParsingError.invalid(what: "the index")
            }
            let late = try reader.frame(at: position, limit: 16 << 20).payload
            let json = Array(late.dropFirst(4))
            guard Array(late.prefix(4)) == ImageFormat.lateFactsTag, footer.lateFactsHash == ContentHash(of: json)
            else {
                throw ParsingError.invalid(what: "the late facts")
            }
            lateFacts = try JSONText.decode(LateFacts.self, json)
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(
                name: name, what: "\(error)", fileOffset: footer.indexOffset, disk: nil, partition: nil)
        }
    }

    /// Opens an image for reading front to back: a file, or standard input where `path` is `-`.
    public static func openForStreaming(_ path: String) throws(ImageError) -> OwnedDescriptor {
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

/// Frames at known places of a file.
struct PositionedReader {
    let file: FileDescriptor
    let name: String
    let byteCount: UInt64

    func frame(at offset: UInt64, limit: Int) throws -> (payload: [UInt8], next: UInt64) {
        let head = try bytes(at: offset, count: 8)
        guard try head.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic else {
            throw ParsingError.invalid(what: "a frame's mark")
        }
        let count = Int(try head.littleEndian(UInt32.self, at: 4))
        guard count <= limit else { throw ParsingError.invalid(what: "a frame of \(count) bytes") }
        return (try bytes(at: offset + 8, count: count), offset + 8 + UInt64(count))
    }

    private func bytes(at offset: UInt64, count: Int) throws -> [UInt8] {
        guard offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw ImageError.truncated(name: name, at: byteCount)
        }
        var result = [UInt8](repeating: 0, count: count)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try Self.fill(buffer, file, at: offset, name: name) }
        }
        try outcome.get()
        return result
    }

    /// Fills all of `target` from a place of a file.
    static func fill(
        _ target: UnsafeMutableRawBufferPointer, _ file: FileDescriptor, at offset: UInt64, name: String
    ) throws(ImageError) {
        guard let start = Int64(exactly: offset), start <= Int64.max - Int64(target.count) else {
            throw .truncated(name: name, at: offset)
        }
        var done = 0
        while done < target.count {
            let part: Int
            do {
                part = unsafe try file.read(
                    fromAbsoluteOffset: start + Int64(done),
                    into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
            } catch {
                throw .system(SystemCallError("read", name, error as? Errno ?? .ioError))
            }
            guard part > 0 else { throw .truncated(name: name, at: offset + UInt64(done)) }
            done += part
        }
    }
}
