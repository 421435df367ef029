// SPDX-License-Identifier: GPL-3.0-or-later

/// Whether a filesystem's length can be changed by its own tool, as far as its survey tells: nothing is run for it.
package struct ResizeAbility: Equatable, Sendable {
    /// Why it cannot be made larger, as a sentence; `nil` where it can.
    package var growObstacle: String?
    /// Why it cannot be made smaller, as a sentence; `nil` where it can (down to `FilesystemInfo.leastByteCount`).
    package var shrinkObstacle: String?

    /// Whether it can be made larger.
    package var canGrow: Bool { growObstacle == nil }
    /// Whether it can be made smaller.
    package var canShrink: Bool { shrinkObstacle == nil }
}

extension FilesystemInfo {
    /// The reason for `MapSource.whole` that says nothing about the filesystem: somebody wished for every sector.
    package static let allSectorsReason = "all sectors were asked for"

    /// Whether it can be resized once it is restored.
    package var resizeAbility: ResizeAbility {
        let obstacle = traits.resizeObstacle(self)
        return ResizeAbility(
            growObstacle: obstacle ?? (traits.growsUnclean ? nil : stateObstacle),
            shrinkObstacle: obstacle ?? traits.shrinkObstacle(self) ?? stateObstacle)
    }

    /// Whether its tool makes it larger right on sectors of `size` bytes.
    package func growsOnSectors(of size: Int) -> Bool { traits.growsOnOtherSectors || sectorSize == size }

    /// A log to replay, damage, an unknown feature: its tool would work on something that nobody has understood.
    private var stateObstacle: String? {
        guard mapSource == .whole, wholeReason != Self.allSectorsReason else { return nil }
        return wholeReason ?? "it could not be read"
    }
}
