// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// Makes a `SystemBootSurvey`.
struct BootSurveyor {
    let disk: BlockDevice
    let options: BootRepairOptions

    func survey(_ log: (String) -> Void) throws(BootRepairError) -> SystemBootSurvey {
        let kernelName = VolumeNode.kernelName(of: disk)
        try Self.refuseUse(of: kernelName)
        let identity = DiskDirectory().identity(
            path: disk.path, kernelName: kernelName, diskSequence: disk.diskSequence)
        let observed: DiskSurvey
        let unlocker = options.luksKeyFiles.isEmpty ? nil : LUKSUnlocker(keyFiles: options.luksKeyFiles)
        do {
            // Which sectors are in use does not matter; only then, LUKS is opened.
            observed = try DiskSurveyor.survey(
                disk, identity: identity, geometry: disk.geometry, allUsed: unlocker == nil, trustMaps: true,
                unlocker: unlocker, descriptor: disk.fileDescriptor.rawValue)
        } catch { throw .inputOutput(error) }
        var survey = SystemBootSurvey(
            disk: identity, byteCount: disk.byteCount, sectorSize: disk.logicalSectorSize,
            tableKind: observed.table.kind, diskGUID: observed.table.diskGUID,
            diskSignature: observed.table.diskSignature,
            firstPartitionOffset: observed.table.partitions.map(\.range.lowerBound).min(),
            volumes: BootVolume.all(of: observed), firmware: options.firmware,
            access: .none,
            kernelMountsFAT: Self.kernelKnows("vfat"))
        guard survey.hasTable else { return survey }
        let configurations = BootLoaders.table.rows.flatMap { $0.configurations }
        let esp = survey.volumes.first(where: \.isESP)
            .map { ESPReader.read(disk, volume: $0, configurations: configurations) }
        survey.esp = esp?.survey
        survey.sealedVolumes = survey.volumes.compactMap { SealedVolume($0, on: disk) }
        try lookIntoSystem(&survey, esp, log)
        survey.hibernated = observed.volumes.first { SwapArea.isHibernated($0.filesystem) }?.partition?.number
        if let number = survey.hibernated {
            survey.access = .none
            survey.accessProblem = BootRepairError.hibernation(number)
        }
        // On a workstation, its own mappings may have these names.
        if options.inRecoveryEnvironment { survey.volumes = survey.volumesNamedByCrypttab() }
        if let unlocker, !unlocker.hasOpened { survey.systemFindings.append(Self.closed(unlocker)) }
        // Entries for MBR partitions do not identify them by GUID: they are not changed.
        // A disk that is made to start by UEFI on another machine gets no entry: a BIOS has none.
        if options.inRecoveryEnvironment, options.touchNVRAM, survey.firmware == .uefi, survey.tableKind == .gpt,
            Firmware.current == .uefi
        {
            survey.nvram = FirmwareEntries.survey()
        }
        return survey
    }

    /// A surveyed system.
    private struct Found {
        let system: InstalledSystem
        let findings: BootFindings
    }

    /// Mounts possible root filesystems read-only and lets the loaders survey them. If there are several systems, the
    /// one whose fstab names its own partition as root is chosen.
    private func lookIntoSystem(
        _ survey: inout SystemBootSurvey, _ esp: ESPContents?, _ log: (String) -> Void
    ) throws(BootRepairError) {
        var found: [Found] = []
        var problems: [Finding] = []
        let candidates = survey.volumes.filter(\.mayHoldSystem)
        for volume in candidates {
            log("looking into \(volume.place) (\(volume.kindName))")
            do throws(BootRepairError) {
                if let one = try look(into: volume, &survey, esp, &problems) { found.append(one) }
            } catch {
                guard case .system(let call) = error else { throw error }
                problems.append(
                    Finding(
                        .systemUnread, "\(volume.place) could not be read: \(call)",
                        at: .init(partition: volume.number), fix: .none("")))
            }
        }
        let chosen = found.first { $0.system.mountPoint(ofPartition: $0.system.rootPartition) == "/" } ?? found.first
        if found.count > 1, let chosen {
            let others = found.filter { $0.system.rootPartition != chosen.system.rootPartition }
                .map { "\($0.system.name) on \(survey.volume($0.system.rootPartition)?.place ?? "")" }
            problems.append(
                Finding(
                    .otherSystems,
                    "there are other systems, which are not judged or repaired: \(others.joined(separator: ", "))",
                    fix: .none("")))
        }
        if found.isEmpty { problems.append(Self.noSystem(on: survey.volumes)) }
        survey.systemFindings = problems
        survey.system = chosen?.system
        if let chosen {
            survey.findings = chosen.findings
        } else {
            survey.findings = try findings(survey, esp, system: nil, tree: nil)
        }
        if candidates.isEmpty { survey.access = accessToESP(survey) }
        if survey.access == .loopDevices {
            survey.accessProblem =
                survey.disk.kernelName == nil
                ? "the disk is a file" : "this kernel shows no partitions of \(survey.disk.path)"
        } else if survey.access == .none, !candidates.isEmpty {
            survey.accessProblem = problems.first?.sentence
        }
    }

    /// Without a Linux system, nothing was mounted: the EFI system partition of Windows may still be written.
    private func accessToESP(_ survey: SystemBootSurvey) -> SystemBootSurvey.Access {
        guard survey.kernelMountsFAT, let esp = survey.volumes.first(where: \.isESP),
            let node = try? VolumeNode.make(esp, of: disk, readOnly: true)
        else { return .none }
        return node.isPartition ? .partitionNodes : .loopDevices
    }

    /// Keys were given, and nothing was opened.
    private static func closed(_ unlocker: LUKSUnlocker) -> Finding {
        let reason =
            unlocker.problem
            ?? (unlocker.hasFound ? "no given key opens it" : "there is no LUKS volume that could be opened")
        return Finding(.systemUnread, "no LUKS volume was opened: \(reason)", fix: .none(""))
    }

    private static func noSystem(on volumes: [BootVolume]) -> Finding {
        let closed = volumes.filter { [.luks, .raid].contains($0.kind) }
        guard !closed.isEmpty else {
            return Finding(.systemMissing, "no installed Linux system was found", fix: .none(""))
        }
        let names = closed.map { "\($0.place) (\($0.kindName))" }.joined(separator: ", ")
        return Finding(
            .systemMissing, "no installed Linux system was found, and \(names) cannot be read",
            fix: .none(
                "the references to the disk in such a system (fstab, crypttab, grub.cfg) were not checked"))
    }

    /// Mounts a volume, and surveys the system on it; `nil` if there is none.
    private func look(
        into volume: BootVolume, _ survey: inout SystemBootSurvey, _ esp: ESPContents?, _ problems: inout [Finding]
    ) throws(BootRepairError) -> Found? {
        let mounted: (tree: SystemTree, system: InstalledSystem)?
        do throws(SystemCallError) { mounted = try mount(volume, &survey, &problems) } catch { throw .system(error) }
        guard let (tree, system) = mounted else { return nil }
        defer { try? tree.close() }
        return Found(system: system, findings: try findings(survey, esp, system: system, tree: tree))
    }

    /// If the tree is not returned, its deinitialization unmounts it.
    private func mount(
        _ volume: BootVolume, _ survey: inout SystemBootSurvey, _ problems: inout [Finding]
    ) throws(SystemCallError) -> (tree: SystemTree, system: InstalledSystem)? {
        var subvolume: String?
        if volume.kindName == "btrfs" {
            let roots = try BtrfsRoot.find(on: volume, of: disk, keys: options.luksKeyFiles)
            guard let root = BtrfsRoot.choose(roots) else {
                if !roots.isEmpty {
                    let names = roots.map { $0.path.isEmpty ? "/" : $0.path }.joined(separator: ", ")
                    problems.append(
                        Finding(
                            .systemUnread,
                            "of several subvolumes with a system on \(volume.place) (\(names)) it is not clear which "
                                + "is started", at: .init(partition: volume.number),
                            fix: .none("none is judged or repaired")))
                }
                return nil
            }
            subvolume = root.path
        }
        let tree = try SystemTree(
            volume, subvolume: subvolume, of: disk, readOnly: true, keys: options.luksKeyFiles)
        let access: SystemBootSurvey.Access = tree.hasPartitionNodes ? .partitionNodes : .loopDevices
        if survey.access != .partitionNodes { survey.access = access }
        let reader = InstalledSystemReader(tree, survey.volumes, options, devices: options.ways(to: survey.disk))
        guard let system = try reader.read(volume, subvolume: subvolume) else { return nil }
        return (tree, system)
    }

    /// The findings of the loaders.
    private func findings(
        _ survey: SystemBootSurvey, _ esp: ESPContents?, system: InstalledSystem?, tree: SystemTree?
    ) throws(BootRepairError) -> BootFindings {
        let scene = BootScene(
            disk: disk, volumes: survey.volumes, hasGPT: survey.tableKind == .gpt, esp: esp, system: system, tree: tree,
            devices: options.ways(to: survey.disk))
        var findings = BootFindings()
        for loader in BootLoaders.table.rows { try loader.survey(scene, into: &findings) }
        return findings
    }

    /// A disk in use must be neither mounted nor changed.
    static func refuseUse(of kernelName: String?) throws(BootRepairError) {
        guard let kernelName else { return }
        let uses = DiskDirectory().uses(of: kernelName)
        if !uses.isEmpty { throw .inUse(uses.map(\.description)) }
    }

    /// Whether the kernel mounts a filesystem: built in or loaded, or available as a module (mount loads it).
    static func kernelKnows(_ type: String) -> Bool {
        let known = (Files.text("/proc/filesystems") ?? "").split { $0 == "\n" || $0 == "\t" || $0 == " " }
        if known.contains(type[...]) { return true }
        guard let release = Files.text("/proc/sys/kernel/osrelease") else { return false }
        let modules = Files.text(FilePath("/lib/modules/\(release)/modules.dep")) ?? ""
        return modules.split(separator: "\n").contains { line in
            guard let name = line.split(separator: ":").first?.split(separator: "/").last else { return false }
            return name == "\(type).ko" || name.hasPrefix("\(type).ko.")
        }
    }
}
