// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// systemd-boot, and entries of the Boot Loader Specification.
struct SystemdBoot: BootLoader {
    let name = "systemd-boot"

    static let fileName = "systemd-bootx64.efi"
    /// The label of bootctl's entry in the firmware.
    static let label = "Linux Boot Manager"

    func survey(_ scene: BootScene) throws(BootRepairError) -> SystemdBootFinding? {
        var finding = SystemdBootFinding()
        let partitions = BootPartition.all(of: scene.disk, scene.volumes)
        let esp = scene.esp?.survey
        finding.loader = esp?.loaders.first {
            $0.folder.lowercased() == "systemd" && $0.name.lowercased() == Self.fileName
        }
        if let esp {
            finding.isFallback =
                switch esp.fallback {
                case .copy(let path): path == finding.loader?.path
                case .foreign(let owner): owner == ESPReader.systemdBoot
                case .none: false
                }
        }
        for partition in partitions {
            finding.entries += partition.loaderEntries()
            guard partition.place == .esp else { continue }
            finding.hasSeed = partition.exists("/loader/random-seed")
            finding.defaultEntry = partition.text("/loader/loader.conf").flatMap(Self.defaultEntry)
        }
        if let system = scene.system {
            let anchor = try scene.anchored()
            if finding.entries.isEmpty { finding.entries = Self.entries(of: system, anchor) }
            try survey(system, anchor, scene, &finding)
        }
        return finding.loader == nil && finding.entries.isEmpty && !finding.hasSeed ? nil : finding
    }

    private func survey(
        _ system: InstalledSystem, _ anchor: borrowing AnchoredFolder, _ scene: BootScene,
        _ finding: inout SystemdBootFinding
    ) throws(BootRepairError) {
        let kernels = OwnKernels(anchor)
        // A signed loader stands beside the plain one where the distribution signs it.
        let folder = "/usr/lib/systemd/boot/efi"
        finding.packaged = ["\(folder)/\(Self.fileName).signed", "\(folder)/\(Self.fileName)"]
            .first { anchor.exists($0) }
        finding.hasBootctl = InstalledSystemReader.program("bootctl", in: anchor) != nil
        finding.hasKernelInstall = InstalledSystemReader.program("kernel-install", in: anchor) != nil
        finding.hasCommandLine = KernelCommandLine.paths.contains { anchor.exists($0) }
        finding.kernelFiles = kernels.kernelFiles
        for index in finding.entries.indices {
            finding.entries[index].isOwn = Self.isOwn(finding.entries[index], kernels, system, scene.volumes)
        }
        let inspector = InitramfsInspector(volumes: scene.volumes, devices: scene.devices)
        for partition in BootPartition.all(of: scene.disk, scene.volumes) {
            for index in finding.entries.indices.prefix(InstalledSystemReader.mostInspected)
            where finding.entries[index].isOwn == true && finding.entries[index].file.place == partition.place {
                finding.entries[index].contents = inspector.kernel(
                    of: finding.entries[index], on: partition, kernels, system, anchor)
            }
        }
    }

    /// Whether an entry is the system's: by its id or version; else by its root, or by its partition, which only this
    /// system mounts.
    static func isOwn(
        _ entry: LoaderEntry, _ kernels: OwnKernels, _ system: InstalledSystem, _ volumes: [BootVolume]
    ) -> Bool? {
        if let known = kernels.isOwn(entry) { return known }
        let judge = DeviceJudge(volumes: volumes, rootPartition: system.rootPartition, words: entry.words)
        for word in entry.words where word.use == .root {
            switch judge.verdict(of: word) {
            case .here(let number), .moved(let number): return number == system.rootPartition
            case .lost, .unknown: break
            }
        }
        let isMounted = ["/boot", "/efi", "/boot/efi"].contains {
            $0 == system.mountPoint(ofPartition: entry.partition)
        }
        return isMounted && entry.missing.isEmpty ? true : nil
    }

    /// The entries in /boot/loader/entries of the system, where GRUB reads them.
    private static func entries(of system: InstalledSystem, _ anchor: borrowing AnchoredFolder) -> [LoaderEntry] {
        let folder = "/boot/loader/entries"
        var entries: [LoaderEntry] = []
        for name in anchor.names(in: folder).filter({ $0.hasSuffix(".conf") }).prefix(BootPartition.mostFiles) {
            let path = "\(folder)/\(name)"
            guard let bytes = try? anchor.read(path, limit: LoaderEntry.largestFile) else { continue }
            var entry = LoaderEntry(
                String(decoding: bytes, as: UTF8.self), file: TreePath(.system, path), partition: system.bootPartition)
            // Paths begin at the root of /boot's filesystem, which may be a subvolume.
            entry.missing = entry.files.filter { file in
                let inner = file.split(separator: "/").dropFirst().joined(separator: "/")
                return ![file, "/boot/\(file)", "/\(inner)", "/boot/\(inner)"].contains { anchor.exists($0) }
            }
            entries.append(entry)
        }
        return entries
    }

    /// `default` of loader.conf(5).
    private static func defaultEntry(_ text: String) -> String? {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: WordChange.isBlank)
            if words.count > 1, words[0] == "default" { return String(words[1]) }
        }
        return nil
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var planner = SystemdBootPlanner(target)
        planner.planLoader()
        return planner.plan
    }
}
