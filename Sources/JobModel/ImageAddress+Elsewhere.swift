// SPDX-License-Identifier: GPL-3.0-or-later

extension ImageAddress {
    /// Parses a location of the settings: `LABEL=NAME:/path`, `UUID=…:/path`, `/dev/…:/path` or
    /// `http://host[:port]/path`. The medium mounts only the volumes that its settings name, so a plain path names
    /// nothing there.
    public static func parse(setting text: String) throws(JobFailure) -> ImageAddress {
        try elsewhere(text, isFolder: false)
    }

    /// Parses the location of a folder on a volume; `LABEL=NAME:/` is the volume's root.
    public static func parse(folder text: String) throws(JobFailure) -> ImageAddress {
        let address = try elsewhere(text, isFolder: true)
        guard !address.needsNetwork else {
            throw JobFailure(.usage, "\(text): not a folder on a volume of this machine")
        }
        return address
    }

    private static func elsewhere(_ text: String, isFolder: Bool) throws(JobFailure) -> ImageAddress {
        guard text.utf8.count <= 4096, !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw JobFailure(.usage, "a location is longer than 4096 bytes or holds control characters")
        }
        let scheme = text.prefix(8).lowercased()
        if scheme.hasPrefix("http://") { return .http(try checkedAddress(text)) }
        if scheme.hasPrefix("https://") {
            throw JobFailure(
                .usage,
                "\(text): https is not supported yet. Use http:// together with image-id=, which proves what arrives.")
        }
        // A label may hold `:/`; the path starts at the first one, as with every mount option.
        guard let split = firstIndex(of: ":/", in: text) else {
            throw JobFailure(
                .usage,
                "\(text): not a location. Locations are LABEL=NAME:/path, UUID=...:/path, /dev/...:/path and http://host[:port]/path."
            )
        }
        let name = String(text[..<split])
        return .volume(
            try volumeName(name, in: text),
            path: try checkedPath(String(text[text.index(after: split)...]), text, isFolder: isFolder))
    }

    private static func volumeName(_ name: String, in text: String) throws(JobFailure) -> VolumeName {
        if let label = name.valueAfter("LABEL="), !label.isEmpty { return .label(label) }
        if let uuid = name.valueAfter("UUID="), !uuid.isEmpty,
            uuid.allSatisfy({ $0.isASCII && ($0.isHexDigit || $0 == "-") })
        {
            return .uuid(uuid)
        }
        if name.hasPrefix("/dev/"), !components(name).contains(".."), components(name).count > 1 {
            return .device(name)
        }
        throw JobFailure(.usage, "\(text): \"\(name)\" does not name a volume. Use LABEL=NAME, UUID=... or /dev/....")
    }

    private static func checkedPath(_ path: String, _ text: String, isFolder: Bool) throws(JobFailure) -> String {
        let parts = components(path)
        guard isFolder || !parts.isEmpty && !path.hasSuffix("/") else {
            throw JobFailure(.usage, "\(text): the path names no file")
        }
        guard !parts.contains("..") else {
            throw JobFailure(.usage, "\(text): a path with \"..\" could lead out of its volume")
        }
        return path
    }

    /// Accepts an address that curl takes unchanged: no user, no spaces, a plain host name, IPv4 or [IPv6], a port.
    private static func checkedAddress(_ text: String) throws(JobFailure) -> String {
        func refuse(_ why: String) -> JobFailure { JobFailure(.usage, "\(text): \(why)") }
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

extension ImageAddress: Codable {
    /// The form of an address, stored beside its original text.
    private enum Form: String, Codable { case stream, path, snapshot, elsewhere }
    private enum Key: CodingKey { case form, text, behind, time }

    /// Reads an object with `form` and `text`, without looking at this machine.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        let text = try values.decode(String.self, forKey: .text)
        switch try values.decode(Form.self, forKey: .form) {
        case .stream: self = .stream
        case .path: self = .path(text)
        case .elsewhere: self = try Self.elsewhere(text, isFolder: true)
        case .snapshot:
            let time = try values.decodeIfPresent(String.self, forKey: .time)
            let behind = try values.decode(String.self, forKey: .behind)
            guard text.hasSuffix("@\(behind)"),
                let snapshot = SnapshotAddress(
                    String(text.dropLast(behind.count + 1)), behindMark: behind[...], text, isTime: { $0 == time })
            else { throw JobFailure(.usage, "\(text) names no snapshot \(behind)") }
            self = .snapshot(snapshot)
        }
    }

    /// Writes an object with `form` and `text`; for a snapshot also what its parser looked up.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: Key.self)
        try values.encode(description, forKey: .text)
        switch self {
        case .stream: try values.encode(Form.stream, forKey: .form)
        case .path: try values.encode(Form.path, forKey: .form)
        case .volume, .http: try values.encode(Form.elsewhere, forKey: .form)
        case .snapshot(let snapshot):
            try values.encode(Form.snapshot, forKey: .form)
            try values.encode(snapshot.behindMark, forKey: .behind)
            if case .time(let time) = snapshot.choice { try values.encode(time, forKey: .time) }
        }
    }
}
