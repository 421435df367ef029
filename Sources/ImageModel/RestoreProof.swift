// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs

/// What a trial restore showed: whether the system in an image or a snapshot starts, by which sign, with its last
/// picture and its serial log.
package struct RestoreProof: Equatable, Sendable {
    /// Whether the system starts.
    package enum Verdict: String, Codable, Sendable {
        /// A sign showed a running system.
        case proven
        /// It started, and no sign showed more.
        case started
        case notProven = "not-proven"
    }

    /// A picture or a log, by its content.
    package struct Attachment: Codable, Equatable, Sendable {
        package var byteCount: Int
        /// The SHA-256, in hexadecimal digits.
        package var hash: String

        package init(_ bytes: [UInt8]) {
            byteCount = bytes.count
            hash = ContentHash(of: bytes).description
        }
    }

    /// The proof without its attachments. Signed as JSON with sorted keys.
    package struct Facts: Codable, Equatable, Sendable {
        package static let formatName = "reforge proof 1"
        package var format = Self.formatName
        /// The id of the image or snapshot, in hexadecimal digits; empty for a disk or an overlay, which have none.
        package var imageID: String
        package var verdict: Verdict
        /// The sign that proves the start, or the reason why nothing was proven.
        package var sign: String
        /// The end of the trial: RFC 3339, UTC.
        package var made: String
        package var toolVersion: String
        package var firmware: String
        package var qemuVersion: String
        /// The time from power-on to the verdict, in seconds.
        package var seconds: Int
        package var screenshot: Attachment?
        package var serialLog: Attachment?

        package init(
            imageID: ContentHash?, verdict: Verdict, sign: String, made: String, toolVersion: String, firmware: String,
            qemuVersion: String, seconds: Int
        ) {
            self.imageID = imageID?.description ?? ""
            (self.verdict, self.sign, self.made) = (verdict, sign, made)
            (self.toolVersion, self.firmware) = (toolVersion, firmware)
            (self.qemuVersion, self.seconds) = (qemuVersion, seconds)
        }
    }

    /// The facts with their signature.
    package struct Signed: Codable, Equatable, Sendable {
        package var proof: Facts
        /// In hexadecimal digits.
        package var signature: String

        /// Whether the signature is that of the facts.
        package func isIntact(_ identity: ChunkIdentity) -> Bool {
            (try? RestoreProof.signature(of: proof, identity)) == signature
        }
    }

    package let facts: Facts
    /// A PNG; `nil` for none.
    package let screenshot: [UInt8]?
    /// The end of what the system wrote to its serial port; `nil` for none.
    package let serialLog: [UInt8]?

    /// Upper bound on a screenshot, in bytes.
    package static let largestScreenshot = 4 << 20
    /// Upper bound on a serial log, in bytes.
    package static let largestLog = 1 << 20
    /// Upper bound on the signed facts, in bytes of JSON.
    package static let largestFacts = 64 << 10
    /// Upper bound on the length of the sign, in bytes.
    private static let largestSign = 4 << 10

    /// - Parameters:
    ///   - screenshot: left out if it is longer than `largestScreenshot`.
    ///   - serialLog: its end is kept.
    package init(_ facts: Facts, screenshot: [UInt8]? = nil, serialLog: [UInt8]? = nil) {
        var facts = facts
        facts.sign = String(decoding: facts.sign.utf8.prefix(Self.largestSign), as: UTF8.self)
        self.screenshot = screenshot.flatMap { $0.isEmpty || $0.count > Self.largestScreenshot ? nil : $0 }
        self.serialLog = serialLog.flatMap { $0.isEmpty ? nil : Array($0.suffix(Self.largestLog)) }
        facts.screenshot = self.screenshot.map(Attachment.init)
        facts.serialLog = self.serialLog.map(Attachment.init)
        self.facts = facts
    }

    /// A proof that was read.
    /// - Parameter name: its name in messages.
    /// - Throws: `ImageError.damaged` if it is a proof of another image, its signature does not match, or an attachment
    ///   is not the signed one.
    package init(
        _ signed: Signed, screenshot: [UInt8]?, serialLog: [UInt8]?, of imageID: ContentHash,
        _ identity: ChunkIdentity, name: String
    ) throws(ImageError) {
        try Self.check(signed, of: imageID, identity, name: name)
        guard signed.proof.screenshot == screenshot.map(Attachment.init) else {
            throw Self.damaged(name, "its screenshot is not the signed one")
        }
        guard signed.proof.serialLog == serialLog.map(Attachment.init) else {
            throw Self.damaged(name, "its serial log is not the signed one")
        }
        facts = signed.proof
        self.screenshot = screenshot
        self.serialLog = serialLog
    }

    /// Checks facts without their attachments.
    package static func check(
        _ signed: Signed, of imageID: ContentHash, _ identity: ChunkIdentity, name: String
    ) throws(ImageError) {
        guard signed.proof.format == Facts.formatName else {
            throw .unsupported(name: name, what: "a proof of the format \"\(signed.proof.format.prefix(80))\"")
        }
        guard signed.proof.imageID == imageID.description else {
            throw damaged(name, "it is the proof of another image")
        }
        guard signed.isIntact(identity) else { throw damaged(name, "its signature does not match") }
    }

    /// The facts with their signature.
    package func signed(_ identity: ChunkIdentity) throws -> Signed {
        Signed(proof: facts, signature: try Self.signature(of: facts, identity))
    }

    /// The proof without picture and log.
    package var withoutAttachments: RestoreProof { RestoreProof(facts) }

    /// An HMAC under the id key of a repository or image; without keys a SHA-256, which proves integrity only.
    private static func signature(of facts: Facts, _ identity: ChunkIdentity) throws -> String {
        identity.id(of: Array("\(Facts.formatName)\0".utf8) + (try JSONText.encode(facts))).description
    }

    private static func damaged(_ name: String, _ what: String) -> ImageError {
        .damaged(name: name, what: what, fileOffset: 0, disk: nil, partition: nil)
    }
}

extension RestoreProof.Signed {
    /// Parses JSON from outside.
    package init(json bytes: [UInt8], name: String) throws(ImageError) {
        do {
            guard bytes.count <= RestoreProof.largestFacts else {
                throw ParsingError.invalid(what: "\(bytes.count) bytes of facts")
            }
            self = try JSONText.decode(Self.self, bytes)
        } catch {
            throw .damaged(name: name, what: "\(error)", fileOffset: 0, disk: nil, partition: nil)
        }
    }
}
