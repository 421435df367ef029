// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import SystemPackage

/// The suffix of a temporary file's name that identifies its writer, so that leftovers of killed
/// processes can be recognised.
///
/// `BOOT-PID-TICKS-TIME`: eight digits for this boot of this machine (and its process namespace), the process id, its
/// start time, and the time when it began the file, in seconds since 1970.
package struct WriterToken: Sendable {
    /// Whether the process of the token is alive; `nil` if that is unknown: another boot,
    /// machine or process namespace.
    package let isAlive: Bool?

    /// Parses the token behind the last dot of a name; `nil` without one.
    package init?(endOf name: String) {
        let parts = name.split(separator: ".").last?.split(separator: "-") ?? []
        guard parts.count == 4, let process = Int32(parts[1]), let ticks = UInt64(parts[2]), Int64(parts[3]) != nil
        else { return nil }
        isAlive = parts[0] == Self.bootToken ? ProcessFacts.isAlive(process, startTicks: ticks) : nil
    }

    /// The token of this process at this time.
    package static var own: String { "\(bootToken)-\(ownProcess)-\(SystemFacts.unixSeconds())" }

    private static let ownProcess: String = {
        let process = SystemFacts.processID
        return "\(process)-\(ProcessFacts.startTicks(of: process) ?? 0)"
    }()

    /// Identifies a boot of a machine: process ids are valid only within it.
    package static let bootToken: String = {
        let boot = Files.text("/proc/sys/kernel/random/boot_id") ?? "unknown"
        let space = Files.linkTarget("/proc/self/ns/pid") ?? "unknown"
        let digits = String(CRC32.iso.checksum(Array("\(boot) \(space)".utf8)), radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }()
}
