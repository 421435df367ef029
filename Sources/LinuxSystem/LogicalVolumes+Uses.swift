// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension DiskDirectory {
    /// Whether a device is a logical volume, by the id that LVM gave it (`LVM-…`).
    package func isLogicalVolume(_ name: String) -> Bool {
        Files.text(FilePath("/sys/class/block/\(name)/dm/uuid"))?.hasPrefix("LVM-") ?? false
    }

    /// Whether everything below a device is logical volumes: it is one, or it is stacked on some (LUKS in a volume).
    package func standsOnLogicalVolumes(_ name: String) -> Bool {
        if isLogicalVolume(name) { return true }
        let slaves = Files.names(in: FilePath("/sys/class/block/\(name)/slaves"))
        return !slaves.isEmpty && slaves.allSatisfy(standsOnLogicalVolumes)
    }

    /// Whether a use of a disk goes through logical volumes, so that snapshots of these freeze the content it changes.
    package func goesThroughLogicalVolumes(_ use: DiskUse) -> Bool {
        switch use {
        case .mounted(let node, _, _), .swap(let node): standsOnLogicalVolumes(node)
        case .held(_, _, let holder): standsOnLogicalVolumes(holder)
        }
    }
}

/// Identifies a process among all that had or will have its number: in tags of objects that remain if it dies.
package struct ProcessTag: Equatable, Sendable {
    /// `reforge.PID.START.BOOT`.
    package let text: String

    /// The tag of this process.
    package static func own() -> ProcessTag {
        let id = SystemFacts.processID
        return ProcessTag(text: "reforge.\(id).\(ProcessFacts.startTicks(of: id) ?? 0).\(bootID)")
    }

    /// From its text; `nil` for other texts.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "reforge", Int32(parts[1]) != nil else { return nil }
        self.text = text
    }

    private init(text: String) { self.text = text }

    /// Whether that process may be alive: one whose state is unknown counts as alive.
    package var isAlive: Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, let id = Int32(parts[1]), let ticks = UInt64(parts[2]) else { return false }
        return parts[3] == Self.bootID && ProcessFacts.isAlive(id, startTicks: ticks) ?? true
    }

    private static var bootID: String { Files.text("/proc/sys/kernel/random/boot_id") ?? "unknown" }
}
