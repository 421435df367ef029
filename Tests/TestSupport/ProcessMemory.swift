// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The memory of this process.
package enum ProcessMemory {
    /// The resident size in bytes (proc(5), `statm`, second field, in pages of 4 KiB).
    package static func residentByteCount() -> Int {
        let fields = (Files.text("/proc/self/statm") ?? "").split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
    }
}
