// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// Windows: its boot manager, the boot configuration store, and the storage drivers that must start with the system.
/// Everything is changed in place, by a few bytes: no driver for NTFS and no writer of hives is needed.
struct WindowsBootManager: BootLoader {
    let name = "windows"

    /// The name of its firmware boot entry.
    static let label = "Windows Boot Manager"
    /// Its folder below `\EFI`, and the file that firmware starts.
    static let (folder, file) = ("Microsoft\\Boot", "bootmgfw.efi")

    let codes: [FindingCode] = [
        .windowsStoreMissing, .windowsStoreUnread, .windowsStoreOutdated, .windowsEntryLost, .windowsUnread,
        .windowsDriverOff, .windowsDriverMissing, .windowsControllerUnknown,
    ]

    func survey(_ scene: BootScene) throws(BootRepairError) -> WindowsFinding? {
        var surveyor = WindowsSurveyor(scene.disk, scene.volumes)
        return surveyor.survey()
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        // Its boot manager may be there without anything else that can be read.
        var planner = WindowsPlanner(target, target.survey.findings[self] ?? WindowsFinding())
        planner.planStores()
        planner.planDrivers()
        planner.planLoader()
        return planner.plan
    }

    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? {
        var surveyor = WindowsSurveyor(disk, volumes)
        guard let finding = surveyor.survey() else { return "Windows cannot be found any more" }
        for store in finding.stores {
            if let problem = store.problem { return "\(store.path) on partition \(store.partition): \(problem)" }
        }
        return nil
    }
}
