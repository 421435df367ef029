// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// What names a captured machine and its disk in a repository.
enum CapturedHost {
    /// The captured system's own name (its /etc/hostname), else the product and serial number of this machine.
    static func name(_ survey: DiskSurvey, _ source: OpenedDisk) -> String {
        let mounts = source.uses.compactMap { use in
            if case .mounted(_, let place, _) = use { return place }
            return nil
        }
        // The system that runs is the one on the disk: its name needs no reading of the disk.
        if mounts.contains("/"), let name = clean(Files.text("/etc/hostname")) { return name }
        for volume in survey.volumes where volume.filesystem.isExt {
            if let name = hostName(of: volume, on: source.device.path) { return name }
        }
        let dmi = FilePath("/sys/class/dmi/id")
        let parts = [Files.text(dmi.appending("product_name")), Files.text(dmi.appending("product_serial"))]
        return clean(parts.compactMap { clean($0) }.joined(separator: "-")) ?? "unknown"
    }

    /// The disk: its serial number, else its World Wide Name, else the name it was opened by.
    static func disk(_ identity: DiskIdentity) -> String {
        clean(identity.serial) ?? clean(identity.wwn) ?? clean(FilePath(identity.path).lastComponent?.string) ?? "disk"
    }

    /// /etc/hostname of an ext filesystem, read by debugfs without mounting anything; `nil` where there is none.
    private static func hostName(of volume: VolumeSurvey, on disk: FilePath) -> String? {
        // debugfs opens read-only unless told otherwise; -c also works while bitmaps are damaged. libext2fs takes the
        // filesystem's place from what follows the question mark, so that a path with one of its own will not do.
        guard !disk.string.contains("?") else { return nil }
        let output = try? ChildProcess.run([
            "debugfs", "-c", "-R", "cat /etc/hostname", "\(disk.string)?offset=\(volume.range.lowerBound)",
        ])
        guard let output, output.succeeded else { return nil }
        return clean(output.text.split(separator: "\n").first.map(String.init))
    }

    /// A name as people and selectors can use it: no slash, no white space, nothing that is not printable; `nil` where
    /// nothing is left.
    static func clean(_ text: String?) -> String? {
        guard let text else { return nil }
        let characters = text.prefix(64).map { character -> Character in
            let isPlain =
                character.isASCII && (character.isLetter || character.isNumber || "-_.:+".contains(character))
            return isPlain ? character : "-"
        }
        let name = String(characters).split(separator: "-", omittingEmptySubsequences: true).joined(separator: "-")
        return name.isEmpty ? nil : name
    }
}
