// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The framing of an image's parts: skippable frames, which every zstd decoder skips, or sealed frames, unreadable
/// without the key. The payloads are the same.
struct ImageFraming: Sendable {
    /// The parts. The raw value is part of the context of a part's seal.
    enum Part: UInt8 {
        case header = 0
        case record = 1
        case chunk = 2
        case index = 3
        case lateFacts = 4
        case footer = 5
    }

    /// The sealer; `nil` for skippable frames.
    let sealer: Sealer?

    /// Skippable frames, and zstd frames for chunks.
    static let plain = ImageFraming(sealer: nil)
    /// Sealed frames.
    static func sealed(_ keys: MasterKeys) -> ImageFraming { ImageFraming(sealer: Sealer(key: keys.data)) }

    /// The coding of chunk contents.
    func coding(level: Int) -> ChunkCoding {
        ChunkCoding(
            codec: .zstd(level: level), sealer: sealer,
            sealContext: sealer == nil ? [] : EncryptedImage.label + [Part.chunk.rawValue])
    }

    /// The length of the frame of a payload.
    func frameByteCount(_ payloadByteCount: Int) -> Int {
        payloadByteCount + (sealer == nil ? 8 : 4 + Sealer.overheadByteCount)
    }

    /// The first bytes of a footer's frame.
    var footerFrameHead: [UInt8] {
        var head: [UInt8] = []
        if sealer == nil { head.appendLittleEndian(ImageFormat.skippableMagic) }
        head.appendLittleEndian(
            UInt32(ImageFormat.footerByteCount + (sealer == nil ? 0 : Sealer.overheadByteCount)))
        return head
    }

    /// A frame.
    /// - Parameter number: its number among frames of its kind, so that a missing, repeated or moved frame is detected.
    func frame(_ payload: [UInt8], _ part: Part, number: UInt64 = 0) throws(CodecError) -> [UInt8] {
        guard let sealer else { return ImageFormat.frame(payload) }
        let sealed = try sealer.seal(payload, context: Self.context(part, number))
        var frame: [UInt8] = []
        frame.reserveCapacity(4 + sealed.count)
        frame.appendLittleEndian(UInt32(sealed.count))
        return frame + sealed
    }

    /// Reads the frame of a part.
    /// - Parameter limit: upper bound on the payload.
    func payload(
        _ part: Part, number: UInt64 = 0, limit: Int, from source: some FrameSource
    ) throws(ImageError) -> [UInt8] {
        let offset = source.position
        let head = try source.bytes(sealer == nil ? 8 : 4)
        do {
            guard let sealer else {
                return try source.bytes(try Self.payloadByteCount(ofSkippable: head, limit: limit))
            }
            let byteCount = Int(try head.littleEndian(UInt32.self, at: 0))
            guard byteCount >= Sealer.overheadByteCount, byteCount - Sealer.overheadByteCount <= limit else {
                throw ParsingError.invalid(what: "a frame of \(byteCount) bytes")
            }
            return try sealer.open(try source.bytes(byteCount), context: Self.context(part, number))
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(name: source.name, what: "\(error)", fileOffset: offset, disk: nil, partition: nil)
        }
    }

    /// The length of the payload behind the first 8 bytes of a skippable frame.
    static func payloadByteCount(ofSkippable head: [UInt8], limit: Int) throws(ParsingError) -> Int {
        guard try head.littleEndian(UInt32.self, at: 0) == ImageFormat.skippableMagic else {
            throw .invalid(what: "a frame's mark")
        }
        let byteCount = Int(try head.littleEndian(UInt32.self, at: 4))
        guard byteCount <= limit else { throw .invalid(what: "a frame of \(byteCount) bytes") }
        return byteCount
    }

    private static func context(_ part: Part, _ number: UInt64) -> [UInt8] {
        var context = EncryptedImage.label + [part.rawValue]
        context.appendLittleEndian(number)
        return context
    }
}

/// Sequential bytes of an image.
protocol FrameSource: AnyObject {
    /// The name in messages.
    var name: String { get }
    /// The offset of the next byte in the file.
    var position: UInt64 { get }
    /// The next `byteCount` bytes; throws if there are fewer.
    func bytes(_ byteCount: Int) throws(ImageError) -> [UInt8]
}
