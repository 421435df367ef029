// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// Unified kernel images: started by systemd-boot, by an entry of the firmware, or as the fallback loader.
struct UnifiedKernels: BootLoader {
    let name = "uki"

    static let folder = "/EFI/Linux"

    func survey(_ scene: BootScene) throws(BootRepairError) -> UnifiedKernelsFinding? {
        var finding = UnifiedKernelsFinding()
        for partition in BootPartition.all(of: scene.disk, scene.volumes) {
            finding.images += partition.names(in: Self.folder, ending: ".efi").compactMap { name in
                UnifiedKernel("\(Self.folder)/\(name)", in: partition)
            }
            if partition.place == .esp, partition.exists("/EFI/BOOT/BOOTX64.EFI") {
                let image = UnifiedKernel("/EFI/BOOT/BOOTX64.EFI", in: partition)
                finding.fallback = image?.problem == nil ? image : nil
            }
        }
        guard !finding.images.isEmpty || finding.fallback != nil else { return nil }
        guard let system = scene.system else { return finding }
        let anchor = try scene.anchored()
        let kernels = OwnKernels(anchor)
        finding.kernelFiles = kernels.kernelFiles
        finding.hasKernelInstall = InstalledSystemReader.program("kernel-install", in: anchor) != nil
        finding.hasSigning = ["/etc/kernel/uki.conf", "/etc/sbctl", "/usr/share/secureboot/keys", "/var/lib/sbctl"]
            .contains { anchor.exists($0) }
        finding.commandLineFile = ["/etc/kernel/cmdline", "/usr/lib/kernel/cmdline"].first { anchor.exists($0) }
        for index in finding.images.indices {
            finding.images[index].isOwn = Self.isOwn(finding.images[index], kernels, system, scene.volumes)
        }
        if let fallback = finding.fallback {
            finding.fallback?.isOwn = Self.isOwn(fallback, kernels, system, scene.volumes)
        }
        let inspector = InitramfsInspector(volumes: scene.volumes, devices: scene.devices)
        for partition in BootPartition.all(of: scene.disk, scene.volumes) {
            func inspected(_ image: UnifiedKernel) -> InstalledSystem.Kernel? {
                guard image.isOwn == true, image.hasInitramfs, image.place == partition.place else { return nil }
                return inspector.kernel(of: image, on: partition, kernels, system, anchor)
            }
            for index in finding.images.indices.prefix(InstalledSystemReader.mostInspected) {
                if let contents = inspected(finding.images[index]) { finding.images[index].contents = contents }
            }
            if let contents = finding.fallback.flatMap(inspected) { finding.fallback?.contents = contents }
        }
        return finding
    }

    /// Whether an image starts the system: by the version of its kernel and the system's ID, else by its root.
    static func isOwn(
        _ image: UnifiedKernel, _ kernels: OwnKernels, _ system: InstalledSystem, _ volumes: [BootVolume]
    ) -> Bool? {
        if let id = image.systemID, id != system.identifier { return false }
        if let version = image.version, kernels.versions.contains(version) { return true }
        let judge = DeviceJudge(volumes: volumes, rootPartition: system.rootPartition, words: image.words)
        for word in image.words where word.use == .root {
            switch judge.verdict(of: word) {
            case .here(let number), .moved(let number): return number == system.rootPartition
            case .lost, .unknown: break
            }
        }
        return image.systemID == nil ? nil : true
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var planner = UnifiedKernelsPlanner(target)
        planner.planImages()
        return planner.plan
    }
}

/// The unified kernel images on a disk.
package struct UnifiedKernelsFinding: LoaderFinding {
    /// Those in EFI/Linux of the EFI system partition and of the extended boot partition.
    package var images: [UnifiedKernel] = []
    /// The fallback loader, if it is one.
    package var fallback: UnifiedKernel?
    /// The kernel files of the system by version.
    package var kernelFiles: [String: String] = [:]
    package var hasKernelInstall = false
    /// Whether the system has its own signing set up.
    package var hasSigning = false
    /// The file of the system with the command line for new images.
    package var commandLineFile: String?

    package init() {}

    var own: [UnifiedKernel] { images.filter { $0.isOwn == true } }
}
