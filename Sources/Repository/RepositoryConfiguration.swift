// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The contents of `repository.json`: the parameters needed before a password is known.
package struct RepositoryConfiguration: Codable, Equatable, Sendable {
    /// A version of the format.
    package struct Version: Codable, Equatable, Sendable {
        /// A larger one is refused.
        package var major: Int
        /// A larger one only adds ignorable members.
        package var minor: Int
    }
    /// `reforge repository`.
    package var format: String
    /// The version of the format.
    package var version: Version
    /// The identity of the repository, repeated in every file of it.
    package var uuid: GUID
    /// The length of a chunk in bytes.
    package var chunkByteCount: Int
    /// Whether contents are sealed.
    package var isEncrypted: Bool
    /// Time of creation: RFC 3339 in UTC.
    package var created: String
    /// Features that an older program may ignore.
    package var compatibleFeatures: [String]
    /// Features that a program must know, or refuse the repository.
    package var incompatibleFeatures: [String]
    /// The CRC-32 of the file's bytes with eight zeros in this place, eight hexadecimal digits.
    var checksum: String

    /// The configuration of a new repository.
    package init(chunkByteCount: Int, isEncrypted: Bool) {
        format = RepositoryFormat.formatName
        version = Version(
            major: Int(RepositoryFormat.version.major), minor: Int(RepositoryFormat.version.minor))
        uuid = .random()
        self.chunkByteCount = chunkByteCount
        self.isEncrypted = isEncrypted
        created = SystemFacts.utcText(SystemFacts.unixSeconds())
        compatibleFeatures = []
        incompatibleFeatures = []
        checksum = Self.noChecksum
    }

    private static let noChecksum = "00000000"
    /// Upper bound on the size of `repository.json`.
    private static let largest = 1 << 16

    /// The file's bytes.
    func fileBytes() throws -> [UInt8] {
        var open = self
        open.checksum = Self.noChecksum
        let bytes = try JSONText.encode(open, pretty: true) + [10]
        guard let place = Self.places(of: Self.noChecksum, in: bytes).first else {
            throw ParsingError.invalid(what: "the configuration")
        }
        var result = bytes
        result.replaceSubrange(place..<place + 8, with: Array(Self.digits(CRC32.iso.checksum(bytes)).utf8))
        return result
    }

    /// Reads and checks `repository.json`.
    static func read(in store: StoreAccess) throws(ImageError) -> RepositoryConfiguration {
        let (folder, path) = (store.name, store.name(of: .configuration))
        let bytes: [UInt8]
        do { bytes = try store.source.read(.configuration, limit: largest) } catch {
            switch error.errno {
            case .noSuchFileOrDirectory:
                throw .missing(
                    store.source.isThere
                        ? "\(folder) is not a Reforge repository: it holds no repository.json"
                        : "there is no repository at \(folder)")
            case .notDirectory: throw .missing("\(folder) is not a Reforge repository: it is a file, not a folder")
            default: throw .system(error)
            }
        }
        struct Front: Decodable {
            var format: String
            var version: Version
            var incompatibleFeatures: [String]
        }
        let front: Front
        do { front = try JSONText.decode(Front.self, bytes) } catch {
            throw .damagedFile(path, "it is not the JSON of a repository")
        }
        guard front.format == RepositoryFormat.formatName else {
            // All other members are valid: then the format name is damaged.
            if (try? JSONText.decode(RepositoryConfiguration.self, bytes)) != nil {
                throw .damagedFile(path, "it has the format \"\(front.format)\"")
            }
            throw .missing("\(folder) is not a Reforge repository: repository.json has the format \"\(front.format)\"")
        }
        guard front.version.major <= Int(RepositoryFormat.version.major) else {
            throw .unsupported(
                name: folder,
                what: "its format is version \(front.version.major), this program reads up to "
                    + "\(RepositoryFormat.version.major)")
        }
        if let unknown = front.incompatibleFeatures.first {
            throw .unsupported(name: folder, what: "it uses the feature \"\(unknown)\"")
        }
        do {
            let configuration = try JSONText.decode(RepositoryConfiguration.self, bytes)
            let places = Self.places(of: configuration.checksum, in: bytes)
            guard configuration.checksum.utf8.count == 8, places.count == 1, let place = places.first else {
                throw ParsingError.invalid(what: "its checksum")
            }
            var open = bytes
            open.replaceSubrange(place..<place + 8, with: Array(Self.noChecksum.utf8))
            guard configuration.checksum == Self.digits(CRC32.iso.checksum(open)) else {
                throw ParsingError.invalid(what: "its checksum")
            }
            guard Manifest.isValidChunkByteCount(configuration.chunkByteCount), configuration.version.major >= 1 else {
                throw ParsingError.invalid(what: "a chunk of \(configuration.chunkByteCount) bytes")
            }
            return configuration
        } catch { throw .about(path, error) }
    }

    /// The offsets of `text` in quotes.
    private static func places(of text: String, in bytes: [UInt8]) -> [Int] {
        let quoted = Array("\"\(text)\"".utf8)
        guard bytes.count >= quoted.count else { return [] }
        return (0...bytes.count - quoted.count).filter { bytes[$0..<$0 + quoted.count].elementsEqual(quoted) }
            .map { $0 + 1 }
    }

    private static func digits(_ checksum: UInt32) -> String {
        let digits = String(checksum, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
