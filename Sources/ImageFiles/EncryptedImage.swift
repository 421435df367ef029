// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The plain head of an encrypted image, which holds its key files. EncryptedImageFormat.md is the specification.
package enum EncryptedImage {
    /// The first bytes of an encrypted image.
    package static let magic = Array("RFIMGENC".utf8)
    /// The version this program writes. A reader refuses a larger major number.
    static let version: (major: UInt16, minor: UInt16) = (1, 0)
    /// The start of the context of all seals of this format.
    static let label = Array("reforge encrypted image 1".utf8)
    /// Upper bound on the bytes of wrapped keys.
    static let largestKeys = WrappedKey.mostTogether * (4 + WrappedKey.largestFile)

    /// The master keys of an image, from the wrapped ones at its front.
    package typealias Unlock = (_ name: String, _ keys: [WrappedKey]) throws(ImageError) -> MasterKeys

    /// Fails for an encrypted image: for callers without a password.
    package static func withoutPassword(_ name: String, _ keys: [WrappedKey]) throws(ImageError) -> MasterKeys {
        throw .key("\(name) is encrypted, and no password was given for it")
    }

    /// Opens with a password.
    package static func unlock(
        _ name: String, _ keys: [WrappedKey], password: [UInt8]
    ) throws(ImageError) -> MasterKeys {
        for key in keys {
            if let open = try key.unwrap(password: password, name: name) { return open }
        }
        throw .key("wrong password for \(name)")
    }

    /// The head's bytes: magic, version, length of the keys, each with its length, checksum.
    static func head(_ keys: [WrappedKey]) throws(ImageError) -> [UInt8] {
        var list: [UInt8] = []
        for key in keys {
            let bytes = try key.bytes()
            list.appendLittleEndian(UInt32(bytes.count))
            list += bytes
        }
        var head = magic
        head.appendLittleEndian(version.major)
        head.appendLittleEndian(version.minor)
        head.appendLittleEndian(UInt32(list.count))
        head += list
        head.appendLittleEndian(CRC32.iso.checksum(head))
        return head
    }

    /// Reads the wrapped keys that follow the magic.
    static func readKeys(from source: some FrameSource) throws(ImageError) -> [WrappedKey] {
        let name = source.name
        func damaged(_ what: String) -> ImageError {
            .damaged(name: name, what: "the head: \(what)", fileOffset: 0, disk: nil, partition: nil)
        }
        let numbers = try source.bytes(8)
        do {
            let major = try numbers.littleEndian(UInt16.self, at: 0)
            guard major <= version.major else {
                throw ImageError.unsupported(
                    name: name, what: "its format is version \(major), this program reads up to \(version.major)")
            }
            let byteCount = Int(try numbers.littleEndian(UInt32.self, at: 4))
            guard major > 0, byteCount <= largestKeys else { throw damaged("keys of \(byteCount) bytes") }
            let list = try source.bytes(byteCount)
            guard try source.bytes(4).littleEndian(UInt32.self, at: 0) == CRC32.iso.checksum(magic + numbers + list)
            else { throw damaged("its checksum") }
            var keys: [WrappedKey] = []
            var place = 0
            while place < list.count {
                let count = Int(try list.littleEndian(UInt32.self, at: place))
                keys.append(try WrappedKey(bytes: try list.bytes(at: place + 4, count: count), name: name))
                place += 4 + count
            }
            guard !keys.isEmpty, keys.count <= WrappedKey.mostTogether else { throw damaged("\(keys.count) keys") }
            return keys
        } catch let error as ImageError {
            throw error
        } catch {
            throw damaged("\(error)")
        }
    }
}

/// The encryption of a new image: its own keys, wrapped in its head.
///
/// No two images share keys, so no part of one passes for a part of another.
package struct ImageSeal: Sendable {
    let keys: MasterKeys
    let wrapped: [WrappedKey]

    /// New keys under a password. The head records the time but no user.
    package init(password: [UInt8], cost: PasswordCost = .standard) throws(ImageError) {
        keys = .random()
        wrapped = [try WrappedKey.wrap(keys, password: password, label: "", cost: cost)]
    }
}
