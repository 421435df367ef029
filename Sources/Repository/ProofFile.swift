// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel

/// The file of a proof: a head, the signed facts, and the attachments, so that a list reads the facts alone.
enum ProofFile {
    /// Tag, version, flags, uuid, stored length of the facts, checksum.
    static let headByteCount = 8 + 2 + 2 + 4 + 16 + 4 + 4
    /// Upper bound on the stored facts, in bytes.
    private static let largestStoredFacts = RestoreProof.largestFacts + RepositoryFormat.protectionByteCount
    /// Upper bound on the attachments, decompressed, with their two lengths.
    private static let largestAttachments = RestoreProof.largestScreenshot + RestoreProof.largestLog + 8
    /// Upper bound on the file. The screenshot does not compress.
    private static let largest =
        UInt64(headByteCount + largestStoredFacts) + UInt64(largestAttachments) + (1 << 20)

    static func bytes(_ proof: RestoreProof, _ name: ProofName, _ secrets: RepositorySecrets) throws -> [UInt8] {
        let facts = try JSONText.encode(try proof.signed(secrets.identity))
        guard facts.count <= RestoreProof.largestFacts else { throw CodecError("its facts are too long") }
        let stored = try secrets.protection.protect(facts, context: secrets.context("proof facts", name.bytes))
        var attachments: [UInt8] = []
        attachments.appendLittleEndian(UInt32(proof.screenshot?.count ?? 0))
        attachments.appendLittleEndian(UInt32(proof.serialLog?.count ?? 0))
        attachments += (proof.screenshot ?? []) + (proof.serialLog ?? [])
        var bytes = RepositoryFormat.proofTag
        bytes.appendLittleEndian(RepositoryFormat.version.major)
        bytes.appendLittleEndian(RepositoryFormat.version.minor)
        bytes.appendLittleEndian(secrets.flags)
        bytes += secrets.uuid.textOrderBytes
        bytes.appendLittleEndian(UInt32(stored.count))
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes + stored
            + (try secrets.protection.protect(
                try Zstd.compress(attachments, level: 3), context: secrets.context("proof attachments", name.bytes)))
    }

    /// The signed facts of the open file, and the offset of the attachments.
    static func facts(
        _ file: StoreFile, _ name: ProofName, _ secrets: RepositorySecrets
    ) throws(ImageError) -> (signed: RestoreProof.Signed, end: Int) {
        do {
            guard file.byteCount <= largest else {
                throw ParsingError.invalid(what: "a proof of \(file.byteCount) bytes")
            }
            let head = try file.bytes(at: 0, count: headByteCount)
            let byteCount = try check(head, secrets, file.name)
            let stored = try file.bytes(at: UInt64(headByteCount), count: byteCount)
            let json = try secrets.protection.open(stored, context: secrets.context("proof facts", name.bytes))
            let signed = try RestoreProof.Signed(json: json, name: file.name)
            try RestoreProof.check(signed, of: name.snapshot, secrets.identity, name: file.name)
            return (signed, headByteCount + byteCount)
        } catch { throw .about(file.name, error) }
    }

    static func proof(
        _ file: StoreFile, _ name: ProofName, _ secrets: RepositorySecrets
    ) throws(ImageError) -> RestoreProof {
        let (signed, end) = try facts(file, name, secrets)
        do {
            // No overflow: `facts` bounds the file.
            let stored = try file.bytes(at: UInt64(end), count: Int(file.byteCount) - end)
            let attachments = try Zstd.decompress(
                try secrets.protection.open(stored, context: secrets.context("proof attachments", name.bytes)),
                limit: largestAttachments)
            let lengths = (
                Int(try attachments.littleEndian(UInt32.self, at: 0)),
                Int(try attachments.littleEndian(UInt32.self, at: 4))
            )
            guard lengths.0 <= attachments.count - 8, lengths.1 == attachments.count - 8 - lengths.0 else {
                throw ParsingError.invalid(what: "the lengths of its attachments")
            }
            let (screenshot, log) = (attachments[8..<8 + lengths.0], attachments[(8 + lengths.0)...])
            return try RestoreProof(
                signed, screenshot: screenshot.isEmpty ? nil : Array(screenshot),
                serialLog: log.isEmpty ? nil : Array(log), of: name.snapshot, secrets.identity, name: file.name)
        } catch { throw .about(file.name, error) }
    }

    /// - Returns: the stored length of the facts.
    private static func check(_ head: [UInt8], _ secrets: RepositorySecrets, _ path: String) throws -> Int {
        guard Array(head[..<8]) == RepositoryFormat.proofTag else {
            throw ParsingError.invalid(what: "its first bytes")
        }
        guard try head.littleEndian(UInt32.self, at: 36) == CRC32.iso.checksum(Array(head[..<36])) else {
            throw ParsingError.invalid(what: "the checksum of its head")
        }
        let major: UInt16 = try head.littleEndian(at: 8)
        let flags: UInt32 = try head.littleEndian(at: 12)
        guard major <= RepositoryFormat.version.major, flags & ~RepositoryFormat.sealedFlag == 0 else {
            throw ImageError.unsupported(name: path, what: "its format is version \(major)")
        }
        guard Array(head[16..<32]) == secrets.uuid.textOrderBytes else {
            throw ParsingError.invalid(what: "it belongs to another repository, and here it")
        }
        guard flags == secrets.flags else { throw ParsingError.invalid(what: "whether it is encrypted") }
        let byteCount = Int(try head.littleEndian(UInt32.self, at: 32))
        guard byteCount <= largestStoredFacts else {
            throw ParsingError.invalid(what: "\(byteCount) bytes of facts")
        }
        return byteCount
    }
}
