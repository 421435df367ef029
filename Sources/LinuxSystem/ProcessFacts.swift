// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Identifies a process across processes, boots and machines.
package struct ProcessFacts: Codable, Equatable, Sendable {
    /// The machine's name.
    package var host: String
    /// The machine: its DMI UUID and `/etc/machine-id`, as far as they can be read. Clones of an image share some of
    /// it.
    package var machine: String
    package var boot: String
    /// The process namespace, in which `process` is valid.
    package var namespace: String
    /// The process id.
    package var process: Int32
    /// Its start time in clock ticks since the boot: process ids are reused.
    package var startTicks: UInt64

    package static func own() -> ProcessFacts {
        let process = SystemFacts.processID
        return ProcessFacts(
            host: Files.text("/proc/sys/kernel/hostname") ?? "",
            machine: (Files.text("/sys/class/dmi/id/product_uuid") ?? "") + "/"
                + (Files.text("/etc/machine-id") ?? ""),
            boot: Files.text("/proc/sys/kernel/random/boot_id") ?? "",
            namespace: Files.linkTarget("/proc/self/ns/pid") ?? "", process: process,
            startTicks: startTicks(of: process) ?? 0)
    }

    /// The start time of a process in clock ticks since the boot (proc(5), `/proc/PID/stat`, field 22);
    /// `nil` without such a process.
    package static func startTicks(of process: Int32) -> UInt64? {
        guard let status = status(of: process), !status.isDead else { return nil }
        return status.startTicks
    }

    private static func status(of process: Int32) -> (startTicks: UInt64, isDead: Bool)? {
        // The second field is the program's name in parentheses, and may hold anything.
        guard let text = Files.text(FilePath("/proc/\(process)/stat")), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, let ticks = UInt64(fields[19]) else { return nil }
        // A zombie process holds no resources.
        return (ticks, fields[0] == "Z" || fields[0] == "X")
    }

    /// Whether a process of this namespace is alive; `nil` if unknown: procfs can hide the processes of others
    /// (hidepid), which proves nothing.
    ///
    /// The corresponding C function is `kill` (with no signal).
    package static func isAlive(_ process: Int32, startTicks: UInt64) -> Bool? {
        guard process > 0 else { return nil }
        if let status = status(of: process) {
            if status.isDead { return false }
            // A process that could not read its own entry recorded no start time.
            return startTicks == 0 ? nil : status.startTicks == startTicks
        }
        return kill(process, 0) != 0 && errno == ESRCH ? false : nil
    }

    /// Whether this process is alive, as seen from `own`; `nil` if that cannot be determined from here.
    package func isAlive(seenBy own: ProcessFacts) -> Bool? {
        guard !boot.isEmpty, boot == own.boot, !namespace.isEmpty, namespace == own.namespace, process > 0 else {
            return nil
        }
        return Self.isAlive(process, startTicks: startTicks)
    }

    /// Whether this is another boot of the machine that `own` runs on, judged by names.
    package func isOtherBoot(ofHostOf own: ProcessFacts) -> Bool {
        host == own.host && machine == own.machine && !boot.isEmpty && boot != own.boot
    }
}
