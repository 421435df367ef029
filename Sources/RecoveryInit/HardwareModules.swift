// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Loads the kernel modules for the present hardware, as udev does on other systems.
struct HardwareModules {
    /// Modules that no modalias requests, or that are needed before a device requests them.
    static let always = [
        "sd_mod", "sr_mod", "loop", "ext4", "vfat", "exfat", "isofs", "udf", "xfs", "btrfs", "f2fs", "nls_cp437",
        "nls_iso8859_1", "nls_ascii", "nls_utf8", "crc32c_generic", "usbhid", "hid_generic", "dm_mod",
    ]
    private var asked: Set<String> = []

    /// Requests the modules of every new device.
    /// - Returns: whether there were new devices.
    mutating func loadForNewDevices(below devices: FilePath = "/sys/devices") -> Bool {
        let new = Self.modaliases(below: devices).union(Self.cardModaliases()).subtracting(asked)
        guard !new.isEmpty else { return false }
        asked.formUnion(new)
        Self.load(new.sorted())
        return true
    }

    /// Loads modules by name or modalias. Missing modules are ignored, as most modaliases have none.
    static func load(_ names: [String]) {
        for batch in batches(names) {
            _ = try? ChildProcess.run(["modprobe", "-a", "-q", "-b", "--"] + batch, timeoutSeconds: 60)
        }
    }

    /// Splits names to fit command lines. The kernel accepts at least 128 KiB of arguments.
    static func batches(_ names: [String], byteLimit: Int = 1 << 15, countLimit: Int = 128) -> [[String]] {
        var batches: [[String]] = []
        var byteCount = 0
        for name in names where isPlausible(name) {
            let size = name.utf8.count + 1
            if let last = batches.last, byteCount + size <= byteLimit, last.count < countLimit {
                batches[batches.count - 1].append(name)
                byteCount += size
            } else {
                batches.append([name])
                byteCount = size
            }
        }
        return batches
    }

    /// Whether a modalias is plausible: devices control parts of it (USB, DMI).
    static func isPlausible(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 4096 && !name.hasPrefix("-")
            && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    /// The modaliases of SD cards and eMMC: the kernel gives them in events only, never as a file (Linux 6.12,
    /// drivers/mmc/core/bus.c, mmc_bus_uevent).
    static func cardModaliases(in bus: FilePath = "/sys/bus/mmc/devices") -> Set<String> {
        var found: Set<String> = []
        for name in Files.names(in: bus).prefix(64) {
            for line in (Files.text(bus.appending(name).appending("uevent")) ?? "").split(separator: "\n")
            where line.hasPrefix("MODALIAS=") {
                let text = String(line.dropFirst("MODALIAS=".count))
                if isPlausible(text) { found.insert(text) }
            }
        }
        return found
    }

    /// All modaliases below a folder of sysfs. Links are not followed (they form cycles).
    static func modaliases(below root: FilePath) -> Set<String> {
        var found: Set<String> = []
        var folders = [(root, 0)]
        // A budget and a depth: sysfs is trusted, but its size depends on the hardware.
        var budget = 200_000
        while let (folder, depth) = folders.popLast(), budget > 0 {
            for entry in Files.entries(in: folder) {
                budget -= 1
                if entry.kind == .folder, depth < 24 {
                    folders.append((folder.appending(entry.name), depth + 1))
                } else if entry.kind == .file, entry.name == "modalias",
                    let text = Files.text(folder.appending(entry.name)), isPlausible(text)
                {
                    found.insert(text)
                }
            }
        }
        return found
    }
}

/// The end of waiting for disks: a pure rule over the observations. Times in seconds.
struct SettleRule: Equatable {
    /// The required time without news.
    var quiet = 1.0
    /// The waiting time on a machine without any disk.
    var patienceWithoutDisks = 10.0
    /// The maximal waiting time for the wanted device.
    var limit = 30.0

    /// - Parameters:
    ///   - elapsed: time since waiting began.
    ///   - sinceNews: time since a disk appeared or disappeared.
    ///   - diskCount: the number of disks.
    ///   - wantedIsThere: whether the device named by the settings exists; `nil` if they name none.
    func isOver(elapsed: Double, sinceNews: Double, diskCount: Int, wantedIsThere: Bool?) -> Bool {
        if elapsed >= limit { return true }
        guard wantedIsThere ?? true, sinceNews >= quiet else { return false }
        return diskCount > 0 || elapsed >= patienceWithoutDisks
    }
}
