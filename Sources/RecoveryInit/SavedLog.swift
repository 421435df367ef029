// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Keeps the log of this boot on the medium's REFORGE volume.
struct SavedLog {
    /// One file a boot, whatever the clock says later.
    private let name: String

    init() { name = Self.name(unixSeconds: SystemFacts.unixSeconds(), unique: Self.bootID()) }

    /// `reforge-20261122T150405Z-1a2b3c4d.log`: exFAT takes no colons, and clocks of dead machines repeat themselves.
    static func name(unixSeconds: Int64, unique: String) -> String {
        let stamp = SystemFacts.utcText(unixSeconds).filter { $0 != "-" && $0 != ":" }
        return "reforge-\(stamp)\(unique.isEmpty ? "" : "-\(unique)").log"
    }

    private static func bootID() -> String {
        String((Files.text("/proc/sys/kernel/random/boot_id") ?? "").filter(\.isHexDigit).prefix(8))
    }

    /// Writes what was said so far; what keeps it from that, as a sentence.
    func save(on medium: Medium) -> String? {
        guard let volume = medium.volume, volume.isMountable(writable: true) else {
            return nil
        }
        guard !OpenedVolume.isAbandoned(volume) else {
            return "The log was not saved on \(volume.path), which could not be unmounted."
        }
        do {
            let bytes = try Files.read(RecoveryPaths.log)
            let mounted = try OpenedVolume(volume, writable: true)
            try AnchoredFolder(mounted.folder).makeFolders("logs")
            try Files.write(bytes, to: mounted.folder.appending("logs").appending(name))
            try mounted.unmount()
            return nil
        } catch {
            return "The log could not be saved on \(volume.path): \(error)"
        }
    }
}
