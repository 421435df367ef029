// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// The kernel's device-mapper.
enum DeviceMapper {
    /// Why the kernel makes no device-mapper nodes here, as a sentence part; `nil` where it does. No program that uses it
    /// loads it by itself, and the node of its control proves nothing: that may be there to have it loaded.
    static func obstacle() -> String? {
        let control: FilePath = "/sys/class/misc/device-mapper"
        if !Files.exists(control) { _ = try? ChildProcess.run(["modprobe", "-q", "dm-mod"]) }
        return Files.exists(control) ? nil : "this kernel has no device-mapper"
    }
}
