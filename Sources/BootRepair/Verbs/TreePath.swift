// SPDX-License-Identifier: GPL-3.0-or-later

/// A folder in which paths are resolved without leaving it.
package enum TreePlace: String, Codable, Sendable {
    /// The installed system, with its fstab mounts at and below /boot.
    case system
    /// The EFI system partition, wherever the system mounts it.
    case esp
    /// The extended boot partition (Boot Loader Specification, XBOOTLDR), wherever the system mounts it.
    case extendedBoot

    /// The name for the user.
    var name: String {
        switch self {
        case .system: "the installed system"
        case .esp: "the EFI system partition"
        case .extendedBoot: "the extended boot partition"
        }
    }
}

/// A file in such a folder.
package struct TreePath: Codable, Equatable, Sendable {
    package var place: TreePlace
    package var path: String

    package init(_ place: TreePlace, _ path: String) {
        self.place = place
        self.path = path
    }
}
