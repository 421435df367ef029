// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Loads the kernel modules for the hardware that is there: what udev does elsewhere.
struct HardwareModules {
    /// Modules that no device asks for by name, or that are wanted before a device does.
    static let always = [
        "sd_mod", "sr_mod", "loop", "ext4", "vfat", "exfat", "isofs", "udf", "xfs", "btrfs", "f2fs", "nls_cp437",
        "nls_iso8859_1", "nls_ascii", "nls_utf8", "crc32c_generic", "usbhid", "hid_generic", "dm_mod",
    ]
    private var asked: Set<String> = []

    /// Asks for the modules of every device that was not there before.
    /// - Returns: whether there was one.
    mutating func loadForNewDevices(below devices: FilePath = "/sys/devices") -> Bool {
        let new = Self.modaliases(below: devices).subtracting(asked)
        guard !new.isEmpty else { return false }
        asked.formUnion(new)
        Self.load(new.sorted())
        return true
    }

    /// Loads modules by name or modalias. What does not exist is passed over: most modaliases have no module.
    static func load(_ names: [String]) {
        for batch in batches(names) {
            _ = try? ChildProcess.run(["modprobe", "-a", "-q", "-b", "--"] + batch, timeoutSeconds: 60)
        }
    }

    /// In pieces that fit a command line. The kernel takes 128 KiB an argument list at the least.
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

    /// Whether a modalias can be one: devices make them up in part (USB, DMI).
    static func isPlausible(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 4096 && !name.hasPrefix("-")
            && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    /// All modaliases below a folder of sysfs. Links are not followed (they lead in circles).
    static func modaliases(below root: FilePath) -> Set<String> {
        var found: Set<String> = []
        var folders = [(root, 0)]
        // A budget and a depth: sysfs is the kernel's, but its size is the hardware's.
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

/// When waiting for disks is over: a pure rule over what was seen so far. Times in seconds.
struct SettleRule: Equatable {
    /// How long nothing new must have come.
    var quiet = 1.0
    /// How long a machine without any disk is waited for.
    var patienceWithoutDisks = 10.0
    /// How long what is wanted is waited for.
    var limit = 30.0

    /// - Parameters:
    ///   - elapsed: since waiting began.
    ///   - sinceNews: since a disk came or went.
    ///   - diskCount: how many there are.
    ///   - wantedIsThere: whether what the settings name is there; `nil` where they name nothing.
    func isOver(elapsed: Double, sinceNews: Double, diskCount: Int, wantedIsThere: Bool?) -> Bool {
        if elapsed >= limit { return true }
        guard wantedIsThere ?? true, sinceNews >= quiet else { return false }
        return diskCount > 0 || elapsed >= patienceWithoutDisks
    }
}
