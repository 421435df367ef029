// SPDX-License-Identifier: GPL-3.0-or-later

/// Whether a filesystem can be resized by its own tool, according to its survey: no tool is run.
package struct ResizeAbility: Equatable, Sendable {
    /// Why it cannot be made larger, as a sentence; `nil` if it can.
    package var growObstacle: String?
    /// Why it cannot be made smaller, as a sentence; `nil` if it can (down to `FilesystemInfo.leastByteCount`).
    package var shrinkObstacle: String?

    /// Whether it can be made larger.
    package var canGrow: Bool { growObstacle == nil }
    /// Whether it can be made smaller.
    package var canShrink: Bool { shrinkObstacle == nil }
}

extension FilesystemInfo {
    /// The value of `MapSource.whole`'s reason that is a user's request for all sectors, and does
    /// not describe the filesystem.
    package static let allSectorsReason = "all sectors were asked for"

    /// Whether it can be resized once it is restored.
    package var resizeAbility: ResizeAbility {
        let obstacle = traits.resizeObstacle(self)
        return ResizeAbility(
            growObstacle: obstacle ?? (traits.growsUnclean ? nil : stateObstacle),
            shrinkObstacle: obstacle ?? traits.shrinkObstacle(self) ?? stateObstacle)
    }

    /// Whether its tool grows it correctly on sectors of `size` bytes.
    package func growsOnSectors(of size: Int) -> Bool { traits.growsOnOtherSectors || sectorSize == size }

    /// A log to replay, damage, an unknown feature: its tool would work on an unverified filesystem.
    private var stateObstacle: String? {
        guard mapSource == .whole, wholeReason != Self.allSectorsReason else { return nil }
        return wholeReason ?? "it could not be read"
    }
}
