// SPDX-License-Identifier: GPL-3.0-or-later

/// What an entry's first field comes to on this disk.
package enum FstabResolution: Codable, Equatable, Sendable {
    /// It names a partition of this disk by something that a restore keeps: UUID, label, …
    case here(partition: Int)
    /// It names a device that is this partition now, but may have another name on this machine.
    case moved(partition: Int)
    /// It names something that is not on this disk.
    case elsewhere
    /// It names no device: proc, tmpfs, a network share, a bind mount, …
    case noDevice
}

/// One line of /etc/fstab (fstab(5)) that is not a comment.
package struct FstabEntry: Codable, Equatable, Sendable {
    /// Its line, from 0.
    package var line: Int
    /// The first field, as it stands there.
    package var device: String
    /// Where it is mounted (escapes resolved); `none` for swap.
    package var mountPoint: String
    /// The filesystem's type.
    package var type: String
    /// The options.
    package var options: [String]
    /// What the first field comes to.
    package var resolution: FstabResolution

    /// Describes an entry.
    package init(
        line: Int, device: String, mountPoint: String, type: String, options: [String] = [],
        resolution: FstabResolution = .noDevice
    ) {
        self.line = line
        self.device = device
        self.mountPoint = mountPoint
        self.type = type
        self.options = options
        self.resolution = resolution
    }

    /// The partition that it means, where that is on this disk.
    package var partition: Int? {
        switch resolution {
        case .here(let number), .moved(let number): number
        case .elsewhere, .noDevice: nil
        }
    }

    /// The subvolume of Btrfs that it mounts, without the slash that may stand before it; `nil` for the default one.
    package var subvolume: String? {
        guard type == "btrfs" || type == "auto",
            let option = options.last(where: { $0.hasPrefix("subvol=") })?.dropFirst("subvol=".count)
        else { return nil }
        return String(option.drop { $0 == "/" })
    }

    /// Whether the system starts without it.
    package var isOptional: Bool { options.contains("noauto") || options.contains("nofail") }
}

/// A first field of /etc/fstab that is to be replaced.
package struct FstabChange: Codable, Equatable, Sendable, CustomStringConvertible {
    /// The line, from 0.
    package var line: Int
    /// What stands there.
    package var from: String
    /// What will stand there.
    package var to: String
    /// Where that entry is mounted.
    package var mountPoint: String

    /// Describes a change.
    package init(line: Int, from: String, to: String, mountPoint: String) {
        self.line = line
        self.from = from
        self.to = to
        self.mountPoint = mountPoint
    }

    /// The word of the file that it replaces.
    var word: WordChange { WordChange(line: line, from: from, to: to) }
    /// A sentence part.
    package var description: String { "\(mountPoint): \(from) → \(to)" }
}
