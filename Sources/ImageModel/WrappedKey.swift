// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import SystemPackage

/// The master keys of a repository or an image, sealed under a password: the content of a key file.
///
/// Everything except the sealed bytes is readable, and covered by the seal.
package struct WrappedKey: Codable, Equatable, Sendable {
    /// The id of the key file: 16 random hexadecimal digits.
    package let id: String
    /// The label given by its creator: `user@host`.
    package let label: String
    /// The time of creation: RFC 3339 in UTC.
    package let created: String
    /// The cost of a password guess.
    package let scrypt: PasswordCost
    /// Random bytes in hexadecimal, which give equal passwords different keys.
    package let salt: String
    /// Identifies the master keys without revealing them: 16 hexadecimal digits, equal in all key files of a
    /// repository.
    package let masterID: String
    /// The sealed master keys in hexadecimal.
    let sealed: String
    /// SHA-256 of all other members: distinguishes a damaged file from a wrong password.
    let checksum: String
    private let format: String
    private let version: Int

    private static let format = "reforge key"
    private static let version = 1
    static let saltByteCount = 32
    /// Upper bound on the keys of an image or a repository: hostile ones must not cost a day of scrypt.
    package static let mostTogether = 64
    /// Upper bounds on a key file and a label, in bytes.
    package static let largestFile = 16 << 10
    static let largestLabel = 256

    private init(
        id: String, label: String, created: String, scrypt: PasswordCost, salt: String, masterID: String,
        sealed: String = ""
    ) {
        self.id = id
        self.label = label
        self.created = created
        self.scrypt = scrypt
        self.salt = salt
        self.masterID = masterID
        self.sealed = sealed
        format = Self.format
        version = Self.version
        checksum = Self.checksum(Self.clearText(id, label, created, scrypt, salt, masterID), sealed)
    }

    /// Seals `keys` under a password.
    /// - Parameter label: free text; control characters for terminals become `?`, and it is cut at 256 bytes.
    package static func wrap(
        _ keys: MasterKeys, password: [UInt8], label: String, cost: PasswordCost = .standard,
        created: String = SystemFacts.utcText(SystemFacts.unixSeconds())
    ) throws(ImageError) -> WrappedKey {
        guard !password.isEmpty else { throw .key("an empty password protects nothing") }
        let open = WrappedKey(
            id: Hexadecimal.text(Array(SecretKey.random().bytes.prefix(8))), label: plainLabel(label), created: created,
            scrypt: cost, salt: Hexadecimal.text(Array(SecretKey.random().bytes.prefix(saltByteCount))),
            masterID: masterID(of: keys))
        let key = try open.passwordKey(password, name: "the new key")
        do {
            let sealed = try Sealer(key: key).seal(keys.data.bytes + keys.id.bytes, context: open.sealContext)
            return WrappedKey(
                id: open.id, label: open.label, created: created, scrypt: cost, salt: open.salt,
                masterID: open.masterID, sealed: Hexadecimal.text(sealed))
        } catch {
            throw .key("could not encrypt the new key: \(error)")
        }
    }

    /// The master keys; `nil` if the password is wrong.
    package func unwrap(password: [UInt8], name: String) throws(ImageError) -> MasterKeys? {
        guard let bytes = Hexadecimal.bytes(sealed) else { throw Self.damaged(name, "the sealed keys") }
        let key = try passwordKey(password, name: name)
        // The checksum was valid: if the seal does not open, another password was used.
        guard let open = try? Sealer(key: key).open(bytes, context: sealContext) else { return nil }
        guard open.count == 2 * SecretKey.byteCount,
            let data = SecretKey(bytes: Array(open.prefix(SecretKey.byteCount))),
            let id = SecretKey(bytes: Array(open.suffix(SecretKey.byteCount)))
        else { throw Self.damaged(name, "the sealed keys") }
        let keys = MasterKeys(data: data, id: id)
        guard Self.masterID(of: keys) == masterID else { throw Self.damaged(name, "it names other keys than it holds") }
        return keys
    }

    private static func masterID(of keys: MasterKeys) -> String {
        Hexadecimal.text(Array(keys.data.derived(for: "key file identity").bytes.prefix(8)))
    }

    /// The bytes of the file.
    package func bytes() throws(ImageError) -> [UInt8] {
        do { return try JSONText.encode(self) } catch { throw .key("could not write a key: \(error)") }
    }

    /// From the bytes of a file.
    /// - Parameter name: name in messages.
    package init(bytes: [UInt8], name: String) throws(ImageError) {
        struct Head: Decodable {
            var format: String
            var version: Int
        }
        guard bytes.count <= Self.largestFile else { throw Self.damaged(name, "\(bytes.count) bytes are no key") }
        let head: Head
        do { head = try JSONText.decode(Head.self, bytes) } catch { throw Self.damaged(name, "it is no key file") }
        guard head.format == Self.format else { throw Self.damaged(name, "it is no key file") }
        guard head.version <= Self.version else {
            throw .unsupported(
                name: name, what: "it is version \(head.version), this program reads up to \(Self.version)")
        }
        let key: WrappedKey
        do { key = try JSONText.decode(WrappedKey.self, bytes) } catch { throw Self.damaged(name, "a part is missing") }
        guard head.version == Self.version, key.checksum == Self.checksum(key.clearText, key.sealed) else {
            throw Self.damaged(name, "its checksum")
        }
        guard Self.isID(key.id), Self.isID(key.masterID), Self.plainLabel(key.label) == key.label,
            key.created.utf8.count <= 64,
            Self.plainLabel(key.created) == key.created
        else { throw Self.damaged(name, "its name or label") }
        if let contradiction = key.scrypt.contradiction { throw Self.damaged(name, contradiction) }
        guard let salt = Hexadecimal.bytes(key.salt), (16...64).contains(salt.count),
            key.sealed.utf8.count == 2 * (2 * SecretKey.byteCount + Sealer.overheadByteCount),
            Hexadecimal.bytes(key.sealed) != nil
        else { throw Self.damaged(name, "its salt or sealed keys") }
        self = key
    }

    /// Whether a text is an id: 16 lowercase hexadecimal digits.
    static func isID(_ text: String) -> Bool { text.utf8.count == 16 && Hexadecimal.bytes(text) != nil }

    /// Replaces characters that are not printable, and limits the length.
    private static func plainLabel(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            let plain: Unicode.Scalar
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned, .privateUse:
                plain = "?"
            default: plain = scalar
            }
            guard result.utf8.count + UTF8.width(plain) <= largestLabel else { break }
            result.unicodeScalars.append(plain)
        }
        return result
    }

    private func passwordKey(_ password: [UInt8], name: String) throws(ImageError) -> SecretKey {
        if let contradiction = scrypt.contradiction { throw Self.damaged(name, contradiction) }
        guard let salt = Hexadecimal.bytes(salt), !salt.isEmpty else { throw Self.damaged(name, "its salt") }
        // No password is empty, and the library traps on one.
        guard !password.isEmpty else { throw .key("an empty password opens nothing") }
        do {
            return try SecretKey.derived(
                fromPassword: password, salt: salt, rounds: scrypt.rounds, blockSize: scrypt.blockSize,
                parallelism: scrypt.parallelism)
        } catch {
            throw .system(SystemCallError("derive a key from the password (scrypt) for", name, .noMemory))
        }
    }

    /// The bytes covered by the seal besides the keys: all readable parts of the file.
    private var sealContext: [UInt8] { Array(clearText.utf8) }

    private var clearText: String { Self.clearText(id, label, created, scrypt, salt, masterID) }

    /// The readable parts, one per line; the label comes last, as only it is free text.
    private static func clearText(
        _ id: String, _ label: String, _ created: String, _ scrypt: PasswordCost, _ salt: String, _ masterID: String
    ) -> String {
        "\(format) \(version)\n\(id)\n\(created)\n\(scrypt.rounds) \(scrypt.blockSize) \(scrypt.parallelism)\n\(salt)\n\(masterID)\n\(label)"
    }

    private static func checksum(_ clearText: String, _ sealed: String) -> String {
        ContentHash(of: Array("\(sealed)\n\(clearText)".utf8)).description
    }

    private static func damaged(_ name: String, _ what: String) -> ImageError {
        .damaged(name: name, what: "the key file: \(what)", fileOffset: 0, disk: nil, partition: nil)
    }
}
