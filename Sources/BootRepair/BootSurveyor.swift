// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
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
        do {
            observed = try DiskSurveyor.survey(
                disk, identity: identity, geometry: disk.geometry, allUsed: true,
                descriptor: disk.fileDescriptor.rawValue)
        } catch { throw .inputOutput(error) }
        var survey = SystemBootSurvey(
            disk: identity, byteCount: disk.byteCount, sectorSize: disk.logicalSectorSize,
            tableKind: observed.table.kind, diskGUID: observed.table.diskGUID,
            diskSignature: observed.table.diskSignature,
            firstPartitionOffset: observed.table.partitions.map(\.range.lowerBound).min(),
            volumes: BootVolume.all(of: observed), firmware: options.firmware,
            access: .none,
            kernelMountsFAT: Self.kernelKnows("vfat"), bios: GrubBIOSFinding(chain: .absent), ownTools: Self.ownTools())
        guard survey.hasTable else { return survey }
        let files = lookIntoSystem(&survey, log)
        do {
            survey.bios = try GrubBIOSReader.read(disk, volumes: survey.volumes, installedCore: files.coreImage)
        } catch { throw .inputOutput(error) }
        survey.esp = survey.volumes.first(where: \.isESP)
            .map { ESPReader.read(disk, volume: $0, installed: files.loaders) }
        // Entries for partitions of an MBR name them by other things than a GUID: they stay as they are.
        if options.inRecoveryEnvironment, options.touchNVRAM, survey.firmware == .uefi, survey.tableKind == .gpt {
            survey.nvram = FirmwareEntries.survey()
        }
        return survey
    }

    /// Files of the installed system that loaders on the disk are compared with.
    private struct LoaderFiles {
        var coreImage: [UInt8]?
        var loaders: [[UInt8]] = []
    }

    /// Mounts what may be a root, read-only, until one has an fstab or an os-release.
    private func lookIntoSystem(_ survey: inout SystemBootSurvey, _ log: (String) -> Void) -> LoaderFiles {
        var found: [(system: InstalledSystem, files: LoaderFiles, access: SystemBootSurvey.Access)] = []
        var problems: [String] = []
        let candidates = survey.volumes.filter(\.mayHoldSystem)
        for volume in candidates {
            log("looking into \(volume.place) (\(volume.kindName))")
            do throws(SystemCallError) {
                var subvolume: String?
                if volume.kindName == "btrfs" {
                    let roots = try BtrfsRoot.find(on: volume, of: disk)
                    guard let root = BtrfsRoot.choose(roots) else {
                        if !roots.isEmpty {
                            let names = roots.map { $0.path.isEmpty ? "/" : $0.path }.joined(separator: ", ")
                            problems.append(
                                "of several subvolumes with a system on \(volume.place) (\(names)) it is not clear which "
                                    + "is started: none was looked after")
                        }
                        continue
                    }
                    subvolume = root.path
                }
                let tree = try SystemTree(volume, subvolume: subvolume, of: disk, readOnly: true)
                defer { try? tree.close() }
                let access: SystemBootSurvey.Access = tree.hasPartitionNodes ? .partitionNodes : .loopDevices
                if survey.access != .partitionNodes { survey.access = access }
                guard
                    let system = try InstalledSystemReader(tree, survey.volumes, options)
                        .read(volume, subvolume: subvolume)
                else { continue }
                found.append((system, try loaderFiles(tree, system), access))
            } catch {
                problems.append("\(volume.place) could not be looked into: \(error)")
            }
        }
        // Of several systems, the one whose fstab says that it is the root of its partition.
        let chosen = found.first { $0.system.mountPoint(ofPartition: $0.system.rootPartition) == "/" } ?? found.first
        if found.count > 1, let chosen {
            let others = found.filter { $0.system.rootPartition != chosen.system.rootPartition }
                .map { "\($0.system.name) on \(survey.volume($0.system.rootPartition)?.place ?? "")" }
            problems.append("there are other systems, which were not looked after: \(others.joined(separator: ", "))")
        }
        if found.isEmpty {
            let closed = survey.volumes.filter { [.luks, .raid].contains($0.kind) }
            let names = closed.map { "\($0.place) (\($0.kindName))" }.joined(separator: ", ")
            problems.append(
                closed.isEmpty
                    ? "no installed Linux system was found"
                    : "no installed Linux system was found, and \(names) cannot be looked into: what such a system says of its "
                        + "disk (fstab, crypttab, grub.cfg) was not checked")
        }
        survey.systemProblem = problems.isEmpty ? nil : problems.joined(separator: "; ")
        survey.system = chosen?.system
        if survey.access == .loopDevices {
            survey.accessProblem =
                survey.disk.kernelName == nil
                ? "the disk is a file" : "this kernel shows no partitions of \(survey.disk.path)"
        } else if survey.access == .none, !candidates.isEmpty {
            survey.accessProblem = problems.first
        }
        return chosen?.files ?? LoaderFiles()
    }

    private func loaderFiles(_ tree: SystemTree, _ system: InstalledSystem) throws(SystemCallError) -> LoaderFiles {
        let anchor = try tree.anchored()
        let loaders = [
            "\(system.grubFolder)/x86_64-efi/core.efi", "\(system.grubFolder)/x86_64-efi/grub.efi",
            "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "/usr/lib/shim/shimx64.efi.signed",
        ]
        return LoaderFiles(
            coreImage: try? anchor.read("\(system.grubFolder)/i386-pc/core.img"),
            loaders: loaders.compactMap { try? anchor.read($0) })
    }

    /// A disk that something uses is not ours to mount or to change.
    static func refuseUse(of kernelName: String?) throws(BootRepairError) {
        guard let kernelName else { return }
        let uses = DiskDirectory().uses(of: kernelName)
        if !uses.isEmpty { throw .inUse(uses.map(\.description)) }
    }

    /// Whether the kernel mounts a filesystem: built in or loaded, or to be had as a module (mount loads it).
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

    private static func ownTools() -> [String] {
        var tools: [String] = []
        for (name, paths) in [
            ("grub-mkimage", ["/usr/bin/grub-mkimage", "/bin/grub-mkimage"]),
            ("boot.img", ["\(OwnGrub.folder)/boot.img"]), ("i386-pc", ["\(OwnGrub.folder)/kernel.img"]),
            ("efibootmgr", ["/usr/bin/efibootmgr", "/bin/efibootmgr", "/usr/sbin/efibootmgr", "/sbin/efibootmgr"]),
        ] where paths.contains(where: { Files.exists(FilePath($0)) }) {
            tools.append(name)
        }
        return tools
    }
}

/// GRUB on the medium, or on this workstation.
enum OwnGrub {
    /// The folder of its parts for BIOS.
    static let folder = "/usr/lib/grub/i386-pc"
}
