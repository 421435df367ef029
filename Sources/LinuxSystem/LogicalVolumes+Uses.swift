// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension DiskDirectory {
    /// Whether a device is a logical volume, by the id that LVM gave it (`LVM-…`).
    public func isLogicalVolume(_ name: String) -> Bool {
        Files.text(FilePath("/sys/class/block/\(name)/dm/uuid"))?.hasPrefix("LVM-") ?? false
    }

    /// Whether all that a device stands on is logical volumes: itself one, or on such (LUKS in a volume).
    public func standsOnLogicalVolumes(_ name: String) -> Bool {
        if isLogicalVolume(name) { return true }
        let slaves = Files.names(in: FilePath("/sys/class/block/\(name)/slaves"))
        return !slaves.isEmpty && slaves.allSatisfy(standsOnLogicalVolumes)
    }

    /// Whether a use of a disk goes through logical volumes, so that snapshots of these hold still what it changes.
    public func goesThroughLogicalVolumes(_ use: DiskUse) -> Bool {
        switch use {
        case .mounted(let node, _, _), .swap(let node): standsOnLogicalVolumes(node)
        case .held(_, _, let holder): standsOnLogicalVolumes(holder)
        }
    }
}

/// A process, told from all others that had or will have its number: in tags of what it leaves if it dies.
public struct ProcessTag: Equatable, Sendable {
    /// `reforge.PID.START.BOOT`.
    public let text: String

    /// The tag of this process.
    public static func own() -> ProcessTag {
        let id = SystemFacts.processID
        return ProcessTag(text: "reforge.\(id).\(startTime(id) ?? "0").\(bootID)")
    }

    /// From its text; `nil` where it is no such tag.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "reforge", Int32(parts[1]) != nil else { return nil }
        self.text = text
    }

    private init(text: String) { self.text = text }

    /// Whether that process is alive.
    public var isAlive: Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, let id = Int32(parts[1]) else { return false }
        return parts[3] == Self.bootID && Self.startTime(id).map { $0 == parts[2] } ?? false
    }

    private static var bootID: String { Files.text("/proc/sys/kernel/random/boot_id") ?? "unknown" }

    /// When a process started, in clock ticks since boot (proc(5): field 22; a zombie counts as dead).
    private static func startTime(_ id: Int32) -> String? {
        guard let text = Files.text(FilePath("/proc/\(id)/stat")), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 && fields[0] != "Z" ? String(fields[19]) : nil
    }
}
