// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import Codecs
import JobModel
import LinuxSystem
import SystemPackage

/// `support.tar.zst` on the REFORGE volume: what someone who helps from afar needs to know about this boot, without its
/// secrets.
enum SupportBundle {
    /// Its name on the volume.
    static let fileName = "support.tar.zst"
    /// Upper bound on each text, in bytes; the end of a longer one is kept.
    private static let textLimit = 8 << 20

    /// The compressed archive.
    static func bytes() throws -> [UInt8] {
        let now = SystemFacts.unixSeconds()
        let archive = try TarWriter.archive(
            members().map { (name: "support/\($0.name)", bytes: Array($0.text.utf8)) }, modified: max(0, now))
        return try Zstd.compress(archive)
    }

    /// The texts by name.
    static func members(findings: FilePath = RecoveryPaths.findings) -> [(name: String, text: String)] {
        let kernelLog = KernelLog.records().map(\.line).joined(separator: "\n") + "\n"
        var members = [
            (name: "about.txt", text: about()),
            (name: "command-line.txt", text: SecretFilter.filtered(Files.text("/proc/cmdline") ?? "") + "\n"),
            (name: "kernel.log", text: SecretFilter.filtered(end(of: kernelLog))),
            (name: "hardware.txt", text: HardwareList.text()),
            (name: "volumes.txt", text: volumes()),
        ]
        if let bytes = try? Files.read(RecoveryPaths.log) {
            members.append(
                (name: "session.log", text: SecretFilter.filtered(end(of: String(decoding: bytes, as: UTF8.self)))))
        }
        // `KeptFindings` writes them: `doctor-sda.json`, `doctor-sda.txt`.
        for name in Files.names(in: findings).sorted().prefix(64)
        where name.hasSuffix(".json") || name.hasSuffix(".txt") {
            guard let bytes = try? Files.read(findings.appending(name), limit: textLimit) else { continue }
            members.append(
                (name: "findings/\(name)", text: SecretFilter.filtered(String(decoding: bytes, as: UTF8.self))))
        }
        return members
    }

    private static func about() -> String {
        """
        build: \(Medium.ownBuildID() ?? "unknown")
        kernel: \(Files.text("/proc/sys/kernel/osrelease") ?? "?")
        firmware: \(FirmwareState.current().rawValue)
        time: \(SystemFacts.utcText(SystemFacts.unixSeconds()))
        \(Files.text("/proc/meminfo")?.split(separator: "\n").prefix(3).joined(separator: "\n") ?? "")

        """
    }

    private static func volumes() -> String {
        BlockVolume.list(BlockVolume.all()) + "\n\n" + (Files.text("/proc/partitions") ?? "")
    }

    private static func end(of text: String) -> String {
        text.utf8.count <= textLimit ? text : String(decoding: text.utf8.suffix(textLimit), as: UTF8.self)
    }
}
