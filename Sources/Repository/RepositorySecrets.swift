// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The identity and keys that name, seal and distinguish the files of one repository.
struct RepositorySecrets: Sendable {
    let uuid: GUID
    let identity: ChunkIdentity
    /// Seals contents; `nil` if nothing is encrypted.
    let blobSealer: Sealer?
    /// Protects everything else.
    let protection: Protection

    init(uuid: GUID, keys: MasterKeys?) {
        self.uuid = uuid
        identity = keys.map { .keyed($0.id) } ?? .plain
        blobSealer = keys.map { Sealer(key: $0.data.derived(for: "repository contents")) }
        protection = Protection(sealer: keys.map { Sealer(key: $0.data.derived(for: "repository files")) })
    }

    var isSealed: Bool { blobSealer != nil }
    var flags: UInt32 { isSealed ? RepositoryFormat.sealedFlag : 0 }

    func coding(level: Int, kind: BlobKind) -> ChunkCoding {
        ChunkCoding(
            codec: .zstd(level: level), identity: identity, sealer: blobSealer,
            sealContext: Array("reforge repository 1 content".utf8) + [kind.rawValue])
    }

    /// The context of a part of a file: kind of the part, repository, file, number of the part.
    func context(_ what: String, _ file: [UInt8], part: UInt64 = 0) -> [UInt8] {
        var bytes = Array("reforge repository 1 \(what)".utf8) + uuid.textOrderBytes + file
        bytes.appendLittleEndian(part)
        return bytes
    }

    /// The head of a file: tag, version, flags, uuid, name, then a checksum of these; never sealed.
    func head(_ tag: [UInt8], name: StoreName) -> [UInt8] {
        var bytes = tag
        bytes.appendLittleEndian(RepositoryFormat.version.major)
        bytes.appendLittleEndian(RepositoryFormat.version.minor)
        bytes.appendLittleEndian(flags)
        bytes += uuid.textOrderBytes
        bytes += name.bytes
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }

    /// The length of a head in bytes.
    static let headByteCount = 52

    /// Checks the head of the file at `path`, which must name `name`.
    func check(_ head: [UInt8], _ tag: [UInt8], name: StoreName, path: String) throws(ImageError) {
        do {
            guard head.count == Self.headByteCount, Array(head[..<8]) == tag else {
                throw ParsingError.invalid(what: "its first bytes")
            }
            let major: UInt16 = try head.littleEndian(at: 8)
            let checksum: UInt32 = try head.littleEndian(at: 48)
            guard checksum == CRC32.iso.checksum(Array(head[..<48])) else {
                throw ParsingError.invalid(what: "the checksum of its head")
            }
            guard major <= RepositoryFormat.version.major else {
                throw ImageError.unsupported(name: path, what: "its format is version \(major)")
            }
            let fileFlags: UInt32 = try head.littleEndian(at: 12)
            guard fileFlags & ~RepositoryFormat.sealedFlag == 0 else {
                throw ImageError.unsupported(name: path, what: "it uses a feature that this program does not know")
            }
            guard Array(head[16..<32]) == uuid.textOrderBytes else {
                throw ParsingError.invalid(what: "it belongs to another repository, and here it")
            }
            guard fileFlags == flags else { throw ParsingError.invalid(what: "whether it is encrypted") }
            guard try StoreName(head, at: 32) == name else {
                throw ParsingError.invalid(what: "it was renamed: its name")
            }
        } catch let error as ImageError {
            throw error
        } catch {
            throw .damaged(name: path, what: "\(error)", fileOffset: 0, disk: nil, partition: nil)
        }
    }
}
