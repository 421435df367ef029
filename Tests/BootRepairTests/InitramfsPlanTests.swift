// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import Testing

@testable import BootRepair

@Suite struct InitramfsPlanTests {
    static let need = ModuleNeed(["ahci"], for: "ahci")

    /// A disk whose newest kernel has this initramfs.
    static func plan(
        _ contents: InitramfsSurvey?, needs: [ModuleNeed] = [need],
        generators: [InitramfsGenerator] = [.initramfsTools],
        others: [InstalledSystem.Kernel] = [], programsRunHere: Bool = true
    ) -> BootRepairPlan {
        var survey = Fixture.survey(.bios)
        survey.system?.initramfsGenerators = generators
        survey.system?.programsRunHere = programsRunHere
        survey.system?.kernels =
            [
                InstalledSystem.Kernel(
                    name: "vmlinuz-1", initramfs: contents == nil ? nil : "initrd.img-1", version: "1", needs: needs,
                    contents: contents)
            ] + others
        return BootRepair.plan(survey, options: Fixture.medium(.bios))
    }

    static func rebuilds(_ plan: BootRepairPlan) -> [InitramfsRebuild] {
        plan.steps.compactMap { if case .rebuildInitramfs(let rebuild) = $0.verb { rebuild } else { nil } }
    }

    static let lacking = InitramfsSurvey(
        generator: .initramfsTools, isHostOnly: true, unmet: [need], missing: ["libahci", "ahci"])

    @Test func commandsOfTheGenerators() throws {
        #expect(Self.rebuilds(Self.plan(Self.lacking)).map(\.command) == [["update-initramfs", "-c", "-t", "-k", "1"]])
        var dracut = Self.lacking
        dracut.generator = .dracut
        dracut.commandLine = ["rd.luks.uuid=x", "rw"]
        let both = Self.plan(dracut, generators: [.initramfsTools, .dracut])
        #expect(
            Self.rebuilds(both).first?.command == [
                "dracut", "--force", "--no-hostonly", "--add-drivers", "ahci", "--kernel-cmdline", "rd.luks.uuid=x rw",
                "--kver", "1", "/boot/initrd.img-1",
            ])
        var arch = Self.lacking
        arch.generator = .mkinitcpio
        #expect(
            Self.rebuilds(Self.plan(arch, generators: [.mkinitcpio])).first?.command == [
                "mkinitcpio", "-S", "autodetect", "-k", "1", "-g", "/boot/initrd.img-1",
            ])
    }

    @Test func aRebuildRunsBeforeTheMenuIsWritten() throws {
        var survey = Fixture.survey(.bios)
        survey.grub?.configurationProblems = ["it has no entry"]
        survey.system?.initramfsGenerators = [.initramfsTools]
        survey.system?.kernels = [
            .init(name: "vmlinuz-1", initramfs: nil, version: "1", needs: [Self.need])
        ]
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(Self.rebuilds(plan).first?.path == "/boot/initrd.img-1")
        guard case .rebuildInitramfs = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(plan.steps.count == 2 && plan.mounts.first?.path == "/")
    }

    @Test func whatCannotBeRebuiltIsPending() {
        let none = Self.plan(Self.lacking, generators: [])
        #expect(none.pendingReason?.contains("no program that makes one") == true && Self.rebuilds(none).isEmpty)
        let foreign = Self.plan(Self.lacking, programsRunHere: false)
        #expect(foreign.pendingReason?.contains("another processor") == true)
        // Another kernel starts: it is no reason to fail.
        let other = InstalledSystem.Kernel(
            name: "vmlinuz-2", initramfs: "initrd.img-2", version: "2", needs: [Self.need],
            contents: InitramfsSurvey(generator: .initramfsTools))
        let kept = Self.plan(Self.lacking, generators: [], others: [other])
        #expect(kept.pendingReason == nil && kept.findings.map(\.code) == ["driver-missing"])
        #expect(Self.plan(Self.lacking, others: [other]).findings.map(\.severity) == [.mayStop])
    }

    @Test func findings() {
        func codes(_ plan: BootRepairPlan) -> [String] { plan.findings.map(\.code) }
        #expect(codes(Self.plan(InitramfsSurvey(generator: .dracut))) == [])
        #expect(codes(Self.plan(InitramfsSurvey(isHostOnly: true))) == [], "it holds what this machine needs")
        #expect(codes(Self.plan(InitramfsSurvey(isHostOnly: true), needs: [])) == ["initramfs-one-machine"])
        let unread = Self.plan(InitramfsSurvey(problem: .unread("no lz4")))
        #expect(codes(unread) == ["initramfs-unread"] && Self.rebuilds(unread).isEmpty)
        let damaged = Self.plan(InitramfsSurvey(problem: .damaged("cut off")))
        #expect(codes(damaged) == ["initramfs-damaged"] && Self.rebuilds(damaged).count == 1)
        let unknown = Self.plan(InitramfsSurvey(), needs: [Self.need, ModuleNeed([], for: "mpi3mr")])
        #expect(codes(unknown) == ["driver-not-in-kernel"])
        let rescue = InstalledSystem.Kernel(
            name: "vmlinuz-0-rescue", initramfs: "initramfs-0-rescue.img",
            contents: InitramfsSurvey(generator: .dracut))
        #expect(codes(Self.plan(InitramfsSurvey(), others: [rescue])) == ["kernel-modules-missing"])
        let lost = Self.plan(
            InitramfsSurvey(lostReferences: [
                InitramfsReference(file: "etc/crypttab", target: .luks("x")),
                InitramfsReference(file: "conf/conf.d/resume", target: .device("UUID=y"), purpose: .resume),
            ]))
        #expect(codes(lost) == ["initramfs-reference-lost", "resume-lost"])
        for plan in [unread, damaged, unknown, lost] {
            for finding in plan.findings { #expect(FindingCode.named(finding.code) != nil) }
        }
    }
}
