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
    init(_ value: Substring) {
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
