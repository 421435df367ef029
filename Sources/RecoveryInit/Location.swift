// SPDX-License-Identifier: GPL-3.0-or-later

/// Where an image is, or is to be: a file on a volume, or an address.
package enum Location: Equatable, Sendable, CustomStringConvertible {
    /// A file on a volume of this machine. The path starts with `/` and is the volume's own.
    case file(VolumeName, path: String)
    /// `http://host[:port]/path`, as it was written.
    case http(String)

    /// How a volume is named.
    package enum VolumeName: Equatable, Sendable, CustomStringConvertible {
        /// By its filesystem's label.
        case label(String)
        /// By its filesystem's UUID or volume id, as blkid shows it; either case.
        case uuid(String)
        /// By its device, `/dev/sdb1`.
        case device(String)

        /// As a location writes it.
        package var description: String {
            switch self {
            case .label(let label): "LABEL=\(label)"
            case .uuid(let uuid): "UUID=\(uuid)"
            case .device(let path): path
            }
        }
    }

    /// Parses `LABEL=NAME:/path`, `UUID=…:/path`, `/dev/…:/path` or `http://host[:port]/path`.
    package static func parse(_ text: String) throws(RecoveryError) -> Location { try location(text, isFolder: false) }

    /// Parses the same for a folder on a volume: `LABEL=NAME:/` is its root.
    static func parseFolder(_ text: String) throws(RecoveryError) -> Location {
        let location = try Self.location(text, isFolder: true)
        guard !location.needsNetwork else {
            throw RecoveryError(ExitStatus.usage, "\(text): not a folder on a volume of this machine")
        }
        return location
    }

    private static func location(_ text: String, isFolder: Bool) throws(RecoveryError) -> Location {
        guard text.utf8.count <= 4096, !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw RecoveryError(ExitStatus.usage, "a location is longer than 4096 bytes or holds control characters")
        }
        let scheme = text.prefix(8).lowercased()
        if scheme.hasPrefix("http://") { return .http(try checkedAddress(text)) }
        if scheme.hasPrefix("https://") {
            throw RecoveryError(
                ExitStatus.usage,
                "\(text): https is not supported yet. Use http:// together with image-id=, which proves what arrives.")
        }
        // A label may hold `:/`; the path is what stands behind the first one, as it is with every mount option.
        guard let split = Self.firstIndex(of: ":/", in: text) else {
            throw RecoveryError(
                ExitStatus.usage,
                "\(text): not a location. Locations are LABEL=NAME:/path, UUID=...:/path, /dev/...:/path and http://host[:port]/path."
            )
        }
        let name = String(text[..<split])
        return .file(
            try volumeName(name, in: text),
            path: try checkedPath(String(text[text.index(after: split)...]), text, isFolder: isFolder))
    }

    /// Whether it takes the network to reach it.
    package var needsNetwork: Bool {
        if case .http = self { true } else { false }
    }

    /// The text that parses to this.
    package var description: String {
        switch self {
        case .file(let volume, let path): "\(volume):\(path)"
        case .http(let address): address
        }
    }

    private static func volumeName(_ name: String, in text: String) throws(RecoveryError) -> VolumeName {
        if let label = name.valueAfter("LABEL="), !label.isEmpty { return .label(label) }
        if let uuid = name.valueAfter("UUID="), !uuid.isEmpty,
            uuid.allSatisfy({ $0.isASCII && ($0.isHexDigit || $0 == "-") })
        {
            return .uuid(uuid)
        }
        if name.hasPrefix("/dev/"), !components(name).contains(".."), components(name).count > 1 {
            return .device(name)
        }
        throw RecoveryError(
            ExitStatus.usage, "\(text): \"\(name)\" does not name a volume. Use LABEL=NAME, UUID=... or /dev/....")
    }

    private static func checkedPath(
        _ path: String, _ text: String, isFolder: Bool
    ) throws(RecoveryError) -> String {
        let parts = components(path)
        guard isFolder || !parts.isEmpty && !path.hasSuffix("/") else {
            throw RecoveryError(ExitStatus.usage, "\(text): the path names no file")
        }
        guard !parts.contains("..") else {
            throw RecoveryError(ExitStatus.usage, "\(text): a path with \"..\" could lead out of its volume")
        }
        return path
    }

    /// An address that curl takes as it stands: no user, no spaces, a plain host name, IPv4 or [IPv6], a port.
    private static func checkedAddress(_ text: String) throws(RecoveryError) -> String {
        func refuse(_ why: String) -> RecoveryError { RecoveryError(ExitStatus.usage, "\(text): \(why)") }
        let rest = text.dropFirst("http://".count)
        let authority = rest.prefix { $0 != "/" }
        guard rest.dropFirst(authority.count).count > 1 else { throw refuse("the address names no file") }
        guard rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw refuse("spaces and letters beyond ASCII are written as %20 and the like")
        }
        guard !authority.contains("@") else { throw refuse("names and passwords in addresses are not supported") }
        var host = authority
        var port: Substring?
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw refuse("\"[\" without \"]\"") }
            host = authority[authority.index(after: authority.startIndex)..<end]
            let behind = authority[authority.index(after: end)...]
            guard behind.isEmpty || behind.hasPrefix(":") else { throw refuse("\(behind) is not a port") }
            port = behind.isEmpty ? nil : behind.dropFirst()
            guard host.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." }) else {
                throw refuse("\(host) is not an IPv6 address")
            }
        } else if let colon = authority.firstIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty, !host.hasPrefix("-"),
            host.allSatisfy({ $0.isLetter || $0.isNumber || "-._:".contains($0) })
        else { throw refuse("\"\(host)\" is not a host") }
        if let port {
            guard port.allSatisfy(\.isNumber), let number = UInt16(port), number > 0 else {
                throw refuse("\"\(port)\" is not a port")
            }
        }
        return text
    }

    private static func components(_ path: String) -> [String] { path.split(separator: "/").map(String.init) }

    private static func firstIndex(of pattern: String, in text: String) -> String.Index? {
        var index = text.startIndex
        while index < text.endIndex {
            if text[index...].hasPrefix(pattern) { return index }
            index = text.index(after: index)
        }
        return nil
    }
}

extension String {
    /// What follows `prefix`, where it starts with it.
    func valueAfter(_ prefix: String) -> String? { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil }
}
