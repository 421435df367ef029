// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// GRUB's menu, grub.cfg, shared by all platforms, and the installed system's tools that write it.
struct GrubMenu: BootLoader {
    let name = "grub-menu"
    let programs = ["grub-install", "grub2-install"]
    let codes: [FindingCode] = [.grubMenuWrong, .grubMBRNames]

    /// The folder of the menu.
    static func folder(in system: borrowing AnchoredFolder) -> String {
        system.exists("/boot/grub2/grub.cfg") && !system.exists("/boot/grub/grub.cfg") ? "/boot/grub2" : "/boot/grub"
    }

    func survey(_ scene: BootScene) throws(BootRepairError) -> GrubInstallation? {
        guard let system = scene.system else { return nil }
        let anchor = try scene.anchored()
        let folder = Self.folder(in: anchor)
        var grub = GrubInstallation(folder: folder, path: scene.pathInFilesystem(folder) ?? folder)
        grub.install = programs.first { InstalledSystemReader.program($0, in: anchor) != nil }
        if InstalledSystemReader.program("update-grub", in: anchor) != nil {
            grub.update = ["update-grub"]
        } else {
            grub.update = ["grub-mkconfig", "grub2-mkconfig"]
                .first { InstalledSystemReader.program($0, in: anchor) != nil }.map {
                    [$0, "-o", "\(folder)/grub.cfg"]
                }
        }
        grub.platforms = ["i386-pc", "x86_64-efi"].filter { anchor.exists("/usr/lib/grub/\($0)/modinfo.sh") }
        if let text = anchor.text("\(folder)/grub.cfg") {
            let menu = GrubConfiguration(text)
            grub.configurationProblems = menu.problems(volumes: scene.volumes, rootPartition: system.rootPartition)
            grub.usesLoaderEntries = menu.usesLoaderEntries
            grub.lostResume = menu.lostResume(volumes: scene.volumes)
        }
        // On an MBR there is no name of another kind.
        if scene.hasGPT {
            for path in ["\(folder)/grub.cfg", "\(folder)/custom.cfg", "/etc/grub.d/40_custom"] {
                let changes = GrubTableNames.changes(
                    in: anchor.text(path) ?? "", volumes: scene.volumes, rootPartition: system.rootPartition)
                if !changes.isEmpty { grub.tableNames.append(.init(path: path, changes: changes)) }
            }
        }
        grub.hasCoreImage = anchor.exists("\(folder)/i386-pc/core.img")
        grub.bootImage = ["\(folder)/i386-pc/boot.img", "/usr/lib/grub/i386-pc/boot.img"]
            .first { anchor.exists($0) }
        grub.hasSignedShim =
            anchor.exists("/usr/lib/shim/shimx64.efi.signed")
            && anchor.exists("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
        return grub
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var plan = LoaderPlan()
        guard let grub = target.grub, let system = target.system else { return plan }
        plan.configurationFolder = grub.folder
        for place in grub.lostResume {
            plan.loseResume(of: place, system, at: .file("\(grub.folder)/grub.cfg"))
        }
        for names in grub.tableNames { planNames(names, &plan) }
        let isInstalled = steps.contains { $0.installsGrub || $0.editsGrubDefaults }
        guard isInstalled || grub.configurationProblems != nil || grub.install != nil else { return plan }
        // GRUB may be installed and not be the loader.
        if target.startsWithoutGrub || target.usesExtlinux, !isInstalled, grub.configurationProblems == nil {
            return plan
        }
        let path = "\(grub.folder)/grub.cfg"
        let problems = grub.configurationProblems ?? ["there is none"]
        if problems.isEmpty, !isInstalled {
            plan.alreadyRight.append("\(path) finds this system's root by UUID")
            return plan
        }
        let obstacle = grub.update == nil ? BootObstacle("it has no update-grub") : target.obstacleToPrograms
        let sentence = "\(path) does not start this system: \(problems.joined(separator: "; "))"
        if let command = grub.update, obstacle == nil {
            let step = BootRepairStep.updateGrub(command, folder: grub.folder, by: name)
            if problems.isEmpty {
                plan.steps.append(step)
            } else {
                plan.find(.grubMenuWrong, sentence, at: .file(path), fixedBy: [step])
            }
        } else if !problems.isEmpty {
            plan.fail(
                .grubMenuWrong, sentence, at: .file(path), obstacle ?? BootObstacle("it has no update-grub"),
                matters: true)
        }
        return plan
    }

    private func planNames(_ names: GrubInstallation.TableNames, _ plan: inout LoaderPlan) {
        let count = names.changes.count
        plan.find(
            .grubMBRNames, "\(names.path) names partitions by their numbers in an MBR (\(count) words)",
            at: .file(names.path, line: names.changes.first.map { $0.line + 1 }),
            fixedBy: [
                BootRepairStep(
                    "name partitions as in the GPT in \(names.path) (\(count) words)",
                    .editFile(
                        FileEdit(
                            TreePath(.system, names.path), names.changes,
                            done: "named partitions as in the GPT in \(names.path)")), by: name)
            ])
    }

    func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict {
        guard let configuration else { return ConfigurationVerdict(problems: ["there is none"]) }
        let menu = GrubConfiguration(String(decoding: configuration, as: UTF8.self))
        return ConfigurationVerdict(
            problems: menu.problems(volumes: volumes, rootPartition: rootPartition),
            otherSystems: menu.otherSystems(volumes: volumes, rootPartition: rootPartition).map {
                ConfigurationVerdict.OtherSystem(title: $0.title, place: "\($0.place)")
            })
    }
}

extension FindingCode {
    static let grubMenuWrong = FindingCode(
        "grub-menu-wrong", .configuration, .stops,
        "grub.cfg is missing, or starts no kernel with this system's root on this disk",
        fix: "Boot repair runs the system's `update-grub`")
}
