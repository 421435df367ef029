// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FoundationEssentials
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

/// A boot loader defined by a single type. It starts systems whose /etc/fstab has a line `#toy root=DEVICE`, from its
/// own menu.
private struct ToyLoader: BootLoader {
    struct Finding: LoaderFinding {
        var line: Int
        var root: String
        var breaksRules = false
    }

    let name = "toy"

    func survey(_ scene: BootScene) throws(BootRepairError) -> Finding? {
        guard scene.system != nil else { return nil }
        let anchor = try scene.anchored()
        let lines = (anchor.text("/etc/fstab") ?? "").split(separator: "\n", omittingEmptySubsequences: false)
        guard let line = lines.firstIndex(where: { $0.hasPrefix("#toy ") }) else { return nil }
        return Finding(line: line, root: String(lines[line].dropFirst("#toy ".count)))
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var plan = LoaderPlan()
        guard let finding = target.survey.findings[self], let system = target.system,
            let uuid = target.survey.volume(system.rootPartition)?.uuid
        else { return plan }
        let root = "root=UUID=\(uuid)"
        guard finding.root != root else {
            plan.alreadyRight.append("the toy finds its root")
            return plan
        }
        let edit = FileEdit(
            TreePath(.system, "/etc/fstab"), [WordChange(line: finding.line, word: 1, from: finding.root, to: root)],
            done: "pointed the toy to its root")
        let copies = FileCopies(
            "the toy's menu", in: .system,
            [FileCopies.Copy(from: TreePath(.system, "/boot/grub/grub.cfg"), to: "/boot/toy/menu")],
            done: "copied the toy's menu")
        plan.steps = [
            BootRepairStep("point the toy to its root", .editFile(edit), by: name),
            BootRepairStep("copy the toy's menu", .copyFile(copies), by: name),
        ]
        if finding.breaksRules {
            let loader = FileCopies.Copy(from: TreePath(.esp, "EFI/toy/toy.efi"), to: "/EFI/Boot/bootx64.efi")
            plan.steps += [
                BootRepairStep("remove an entry", .changeNVRAM(.remove(number: "0000", label: "other")), by: name),
                BootRepairStep(
                    "replace the fallback loader", .copyFile(FileCopies("the toy", in: .esp, [loader], done: "")),
                    by: name),
            ]
        }
        return plan
    }
}

/// A row that is added to the table is surveyed, planned and executed; nothing else names it. Other tests see it too:
/// it has no finding if no fstab names it.
struct ToyLoaderTests {
    private static let isRegistered: Bool = {
        BootLoaders.table.register(ToyLoader())
        return true
    }()

    private static func survey(breaksRules: Bool = false) -> SystemBootSurvey {
        var survey = Fixture.survey(.bios)
        survey.findings[ToyLoader()] = ToyLoader.Finding(line: 4, root: "root=/dev/sda3", breaksRules: breaksRules)
        return survey
    }

    @Test func aRowIsPlannedFor() throws {
        try #require(Self.isRegistered)
        let plan = BootRepair.plan(Self.survey(), options: Fixture.medium(.bios))
        #expect(plan.steps.map(\.description) == ["point the toy to its root", "copy the toy's menu"])
        #expect(plan.steps.allSatisfy { $0.loader == "toy" })
        #expect(plan.mounts == [.init(partition: 3, path: "/")])
        #expect(plan.findings.isEmpty)
    }

    @Test func findingsAreWrittenAndReadByTheirRows() throws {
        try #require(Self.isRegistered)
        let survey = Self.survey()
        let read = try JSONDecoder().decode(SystemBootSurvey.self, from: try JSONEncoder().encode(survey))
        #expect(read == survey)
        #expect(read.findings[ToyLoader()]?.root == "root=/dev/sda3")
        #expect(read.bios == survey.bios && read.grub == survey.grub)
        var other = survey
        other.findings[ToyLoader()] = nil
        #expect(other != survey)
    }

    /// The rules apply to any row.
    @Test func noRowBreaksTheRules() throws {
        try #require(Self.isRegistered)
        var survey = Self.survey(breaksRules: true)
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        #expect(plan.steps.map(\.description) == ["point the toy to its root", "copy the toy's menu"])
        let refused = plan.findings.filter { $0.code == "step-refused" }.map { $0.lines.joined() }
        #expect(refused.count == 2, "\(plan)")
        #expect(refused.first?.contains("from the medium only") == true)
        #expect(refused.last?.contains("belongs to Windows Boot Manager") == true)
        survey.esp?.fallback = .copy(of: "\\EFI\\toy\\toy.efi")
        #expect(BootRepair.plan(survey, options: Fixture.medium(.bios)).steps.count == 4)
    }

    @Test(
        .enabled(
            if: SystemFacts.isRoot && Files.exists("/dev/loop-control")
                && ["mke2fs", "sfdisk"].allSatisfy(ChildProcess.canFind),
            "needs root, loop devices, sfdisk and e2fsprogs"))
    func aRowIsSurveyedPlannedAndExecuted() throws {
        try #require(Self.isRegistered)
        let fstab = "/dev/sda2  / ext4 defaults 0 1\n#toy root=/dev/sda2\n"
        try MountedSystemTests.withDisk(fstab: fstab) { image in
            let disk = try BlockDevice(opening: image)
            let survey = try BootRepair.survey(disk: disk, options: MountedSystemTests.options)
            #expect(survey.findings[ToyLoader()] == ToyLoader.Finding(line: 1, root: "root=/dev/sda2"))
            let plan = BootRepair.plan(survey, options: MountedSystemTests.options)
            #expect(plan.steps.count { $0.loader == "toy" } == 2, "\(plan)")
            let outcome = try BootRepair.execute(plan, disk: disk)
            #expect(outcome.pending == nil, "\(outcome)")
            #expect(outcome.changed.contains("pointed the toy to its root"), "\(outcome)")
            #expect(outcome.changed.contains("copied the toy's menu"), "\(outcome)")
            do {
                let tree = try SystemTree(try #require(survey.volume(2)), of: disk, readOnly: true)
                defer { try? tree.close() }
                let anchor = try tree.anchored()
                let edited = anchor.text("/etc/fstab")
                let (menu, copy) = (anchor.text("/boot/grub/grub.cfg"), anchor.text("/boot/toy/menu"))
                let root = "UUID=\(Fixture.rootUUID)"
                #expect(edited == "\(root) / ext4 defaults 0 1\n#toy root=\(root)\n")
                #expect(copy != nil && copy == menu)
            }
            let second = try BootRepair.survey(disk: disk, options: MountedSystemTests.options)
            let nothing = BootRepair.plan(second, options: MountedSystemTests.options)
            #expect(nothing.isEmpty && nothing.alreadyRight.contains("the toy finds its root"), "\(nothing)")
        }
    }
}
