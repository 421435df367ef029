// SPDX-License-Identifier: GPL-3.0-or-later

/// The target of an entry's first field on this disk.
package enum FstabResolution: Codable, Equatable, Sendable {
    /// It names a partition of this disk by an identifier that a restore keeps: UUID, label, …
    case here(partition: Int)
    /// It names a device that is this partition now, but may have another name on this machine.
    case moved(partition: Int)
    /// It names a target outside this disk.
    case elsewhere
    /// It names no device: proc, tmpfs, a network share, a bind mount, …
    case noDevice
}

/// One line of /etc/fstab (fstab(5)) that is not a comment.
package struct FstabEntry: Codable, Equatable, Sendable {
    /// Its line, from 0.
    package var line: Int
    /// The first field, verbatim.
    package var device: String
    /// The mount point (escapes resolved); `none` for swap.
    package var mountPoint: String
    /// The filesystem's type.
    package var type: String
    /// The options.
    package var options: [String]
    /// The target of the first field.
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

    /// The partition it names, if on this disk.
    package var partition: Int? {
        switch resolution {
        case .here(let number), .moved(let number): number
        case .elsewhere, .noDevice: nil
        }
    }

    /// The subvolume of Btrfs that it mounts, without a leading slash; `nil` for the default one.
    package var subvolume: String? {
        guard type == "btrfs" || type == "auto",
            let option = options.last(where: { $0.hasPrefix("subvol=") })?.dropFirst("subvol=".count)
        else { return nil }
        return String(option.drop { $0 == "/" })
    }

    /// Whether the system starts without it.
    package var isOptional: Bool { options.contains("noauto") || options.contains("nofail") }
}

/// A first field of /etc/fstab to be replaced.
package struct FstabChange: Codable, Equatable, Sendable, CustomStringConvertible {
    /// The line, from 0.
    package var line: Int
    /// The old text.
    package var from: String
    /// The new text.
    package var to: String
    /// The mount point of the entry.
    package var mountPoint: String

    /// Describes a change.
    package init(line: Int, from: String, to: String, mountPoint: String) {
        self.line = line
        self.from = from
        self.to = to
        self.mountPoint = mountPoint
    }

    /// The change of the word in the file.
    var word: WordChange { WordChange(line: line, from: from, to: to) }
    /// A sentence part.
    package var description: String { "\(mountPoint): \(from) → \(to)" }
}
