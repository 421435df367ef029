// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// The kernel's device-mapper.
enum DeviceMapper {
    /// Why the kernel cannot create device-mapper nodes here, as a sentence part; `nil` if it can. Programs that use
    /// device-mapper do not load it themselves, and the existence of its control node proves nothing: it may be loaded
    /// only when that node is opened.
    static func obstacle() -> String? {
        let control: FilePath = "/sys/class/misc/device-mapper"
        if !Files.exists(control) { _ = try? ChildProcess.run(["modprobe", "-q", "dm-mod"]) }
        return Files.exists(control) ? nil : "this kernel has no device-mapper"
    }
}
