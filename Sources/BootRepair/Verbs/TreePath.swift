// SPDX-License-Identifier: GPL-3.0-or-later

/// A folder that paths are resolved in: no link leads out of it.
package enum TreePlace: String, Codable, Sendable {
    /// The installed system, with what its fstab mounts at /boot and below.
    case system
    /// The EFI system partition, wherever the system mounts it.
    case esp

    /// What a person calls it.
    var name: String {
        switch self {
        case .system: "the installed system"
        case .esp: "the EFI system partition"
        }
    }
}

/// A file in one of those.
package struct TreePath: Codable, Equatable, Sendable {
    package var place: TreePlace
    package var path: String

    package init(_ place: TreePlace, _ path: String) {
        self.place = place
        self.path = path
    }
}
