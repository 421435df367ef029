// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The front of an image, plain or encrypted: its framing and header.
struct ImageFront {
    let framing: ImageFraming
    /// The header's bytes from the file, as another encoder may have written them.
    let headerPayload: [UInt8]

    /// Reads the front of an image.
    /// - Parameter unlock: provides the keys of an encrypted image.
    init(from source: some FrameSource, unlock: EncryptedImage.Unlock) throws(ImageError) {
        let name = source.name
        let start: [UInt8]
        do { start = try source.bytes(8) } catch .truncated(_, let count) {
            throw .foreign(name: name, why: count == 0 ? "it is empty" : "it is too short")
        }
        if start == EncryptedImage.magic {
            framing = .sealed(try unlock(name, try EncryptedImage.readKeys(from: source)))
            headerPayload = try framing.payload(.header, limit: ImageHeader.largestPayload, from: source)
            return
        }
        guard
            let count = try? ImageFraming.payloadByteCount(ofSkippable: start, limit: ImageHeader.largestPayload)
        else { throw .foreign(name: name, why: "it does not start like one") }
        framing = .plain
        headerPayload = try source.bytes(count)
    }
}
