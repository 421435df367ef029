// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// Gives drivers the firmware that is only in the medium's extras.
struct FirmwareSupply {
    private let extras: MediumExtras
    private let say: (String) -> Void
    /// Files that were asked for before and are in no folder: not said twice.
    private var known: Set<MissingFirmware> = []

    /// `nil` for a build without extras.
    init?(say: @escaping (String) -> Void) {
        guard let extras = MediumExtras() else { return nil }
        self.extras = extras
        self.say = say
    }

    /// Looks for firmware that drivers asked for in vain, mounts the extras if they hold it, and lets the drivers try
    /// again.
    /// - Returns: whether there is firmware now that was missing before.
    mutating func supply(_ medium: Medium) -> Bool {
        let missing = MissingFirmware.find(in: KernelLog.records()).filter { known.insert($0).inserted }
        guard !missing.isEmpty else { return false }
        let held = missing.filter { extras.names.contains("firmware/\($0.name)") }
        let absent = Set(missing.map(\.name)).subtracting(held.map(\.name)).sorted()
        if !absent.isEmpty {
            say(
                "Firmware that is not on this medium: \(absent.joined(separator: ", ").printable). Its device may not work."
            )
        }
        guard !held.isEmpty else { return false }
        do {
            let folder = try extras.open(medium, say: say)
            // The kernel looks there first (Documentation/driver-api/firmware/fw_search_path.rst).
            try Files.put(
                folder.appending("firmware").string, into: "/sys/module/firmware_class/parameters/path")
        } catch {
            // The network or the medium may be there at the next look.
            known.subtract(held)
            say("warning: firmware (\(held.map(\.name).joined(separator: ", ").printable)): \(error)")
            return false
        }
        say("Firmware from the medium's extras: \(Set(held.map(\.name)).sorted().joined(separator: ", ").printable)")
        for missing in held { Self.probe(missing) }
        return true
    }

    /// Lets the kernel look for a driver of the device again. A device that has its driver asks by itself when it is
    /// used, and must not be taken from it.
    private static func probe(_ missing: MissingFirmware) {
        guard let bus = missing.bus, let device = missing.device else { return }
        let folder = FilePath("/sys/bus").appending(bus)
        guard Files.exists(folder.appending("devices").appending(device)),
            !Files.exists(folder.appending("devices").appending(device).appending("driver"))
        else { return }
        try? Files.put(device, into: folder.appending("drivers_probe"))
    }
}
