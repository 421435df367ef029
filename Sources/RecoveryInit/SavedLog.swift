// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Saves the log of this boot, and what else helps to understand it, to the medium's REFORGE volume.
struct SavedLog {
    /// One file per boot, independent of later clock changes.
    private let name: String

    init() { name = Self.name(unixSeconds: SystemFacts.unixSeconds(), unique: Self.bootID()) }

    /// `reforge-20261122T150405Z-1a2b3c4d.log`: exFAT allows no colons, and clocks without a battery repeat their
    /// times.
    static func name(unixSeconds: Int64, unique: String) -> String {
        let stamp = SystemFacts.utcText(unixSeconds).filter { $0 != "-" && $0 != ":" }
        return "reforge-\(stamp)\(unique.isEmpty ? "" : "-\(unique)").log"
    }

    private static func bootID() -> String {
        String((Files.text("/proc/sys/kernel/random/boot_id") ?? "").filter(\.isHexDigit).prefix(8))
    }

    /// Writes the log so far. Returns the error, as a sentence.
    func save(on medium: Medium) -> String? {
        guard let volume = medium.volume, volume.isMountable(writable: true) else {
            return nil
        }
        guard !OpenedVolume.isAbandoned(volume) else {
            return "The log was not saved on \(volume.path), which could not be unmounted."
        }
        do {
            let bytes = try Files.read(RecoveryPaths.log)
            let log = SecretFilter.filtered(String(decoding: bytes, as: UTF8.self))
            // Before the volume is mounted: it looks at all volumes. Without it, the log is saved all the same.
            let bundle = Result { try SupportBundle.bytes() }
            let mounted = try OpenedVolume(volume, writable: true)
            try AnchoredFolder(mounted.folder).makeFolders("logs")
            try Files.write(Array(log.utf8), to: mounted.folder.appending("logs").appending(name))
            try Files.write(bundle.get(), to: mounted.folder.appending(SupportBundle.fileName))
            try mounted.unmount()
            return nil
        } catch {
            return "The log could not be saved on \(volume.path): \(error)"
        }
    }
}
