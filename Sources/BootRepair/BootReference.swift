// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// A reference to a filesystem, a partition or a device in a configuration file.
enum BootReference: Hashable, Sendable {
    /// A filesystem by UUID, in lower case.
    case filesystem(String)
    /// A partition by GUID, in lower case.
    case partition(String)
    /// A filesystem by label, or a partition by name.
    case label(String)
    /// A device by name.
    case device(String)

    /// Parses the value of `root=`, `resume=` and the like.
    init(_ text: Substring) {
        let value = text.contains("\"") ? Substring(text.filter { $0 != "\"" }) : text
        for (folder, tag) in Self.folders where value.hasPrefix(folder) {
            self.init(Substring(tag + Self.unescaped(value.dropFirst(folder.count))))
            return
        }
        if value.hasPrefix("UUID=") {
            self = .filesystem(value.dropFirst(5).lowercased())
        } else if value.hasPrefix("PARTUUID=") {
            self = .partition(value.dropFirst(9).lowercased())
        } else if value.hasPrefix("LABEL=") {
            self = .label(String(value.dropFirst(6)))
        } else if value.hasPrefix("PARTLABEL=") {
            self = .label(String(value.dropFirst(10)))
        } else {
            self = .device(String(value))
        }
    }

    /// The folders of udev's links that name a filesystem or a partition, and their tags.
    private static let folders = [
        ("/dev/disk/by-uuid/", "UUID="), ("/dev/disk/by-partuuid/", "PARTUUID="), ("/dev/disk/by-label/", "LABEL="),
        ("/dev/disk/by-partlabel/", "PARTLABEL="),
    ]

    /// The name of a link of udev's, in which `\x20` is a blank.
    private static func unescaped(_ name: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(name.utf8)[...]
        while let byte = rest.first {
            if rest.starts(with: [0x5C, 0x78]), rest.count >= 4,
                let code = UInt8(String(decoding: rest.dropFirst(2).prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(code)
                rest = rest.dropFirst(4)
            } else {
                bytes.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The value after the tag.
    var text: String {
        switch self {
        case .filesystem(let text), .partition(let text), .label(let text), .device(let text): text
        }
    }

    /// Whether it names this partition or volume.
    func names(_ volume: BootVolume) -> Bool {
        switch self {
        case .filesystem(let uuid): volume.uuid?.lowercased() == uuid
        case .partition(let guid): volume.partUUID == guid
        case .label(let label): volume.label == label || volume.name == label
        case .device(let path): volume.mapperPaths.contains(path)
        }
    }

    /// The references that match no volume, without duplicates.
    static func lost(_ references: [BootReference], volumes: [BootVolume]) -> [String] {
        references.reduce(into: []) { lost, reference in
            let text = reference.text
            if !volumes.contains(where: { reference.names($0) }), !lost.contains(text) { lost.append(text) }
        }
    }
}
