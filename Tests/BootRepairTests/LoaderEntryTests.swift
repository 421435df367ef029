// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

/// Entries of the Boot Loader Specification, and the plan for systemd-boot. Pure.
struct LoaderEntryTests {
    static let esp = TreePath(.esp, "/loader/entries/one.conf")
    static let machineID = "5eed5eed5eed5eed5eed5eed5eed5eed"

    static func entry(_ options: String, isOwn: Bool? = true, missing: [String] = [], name: String = "one")
        -> LoaderEntry
    {
        let text = """
            title      Debian
            version 6.1.0-18-amd64
            machine-id \(machineID)
            linux 	  /\(machineID)/6.1.0-18-amd64/linux
            initrd /\(machineID)/6.1.0-18-amd64/initrd.img-6.1.0-18-amd64
            \(options)

            """
        var entry = LoaderEntry(text, file: TreePath(.esp, "/loader/entries/\(name).conf"), partition: 2)
        entry.isOwn = isOwn
        entry.missing = missing
        return entry
    }

    static let loader = EFILoader(path: "\\EFI\\systemd\\systemd-bootx64.efi", byteCount: 100_000)

    /// A Debian with systemd-boot alone; everything valid.
    static func survey(_ entries: [LoaderEntry], _ change: (inout SystemdBootFinding) -> Void = { _ in })
        -> SystemBootSurvey
    {
        var survey = Fixture.survey(.uefi)
        survey.esp = ESPSurvey(partition: 2, loaders: [loader], fallback: .copy(of: loader.path))
        survey.grub = nil
        survey.grubEFI = GrubEFIFinding()
        survey.bios = GrubBIOSFinding(chain: .absent)
        survey.nvram = NVRAMSurvey(
            entries: [
                NVRAMEntry(
                    number: "0001", label: "Linux Boot Manager", partitionGUID: Fixture.guid(2), path: loader.path)
            ],
            bootOrder: ["0001"], attachedPartitions: (1...4).map(Fixture.guid))
        var finding = SystemdBootFinding()
        finding.loader = loader
        finding.isFallback = true
        finding.entries = entries
        finding.packaged = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
        finding.hasBootctl = true
        finding.hasKernelInstall = true
        finding.kernelFiles = ["6.1.0-18-amd64": "/boot/vmlinuz-6.1.0-18-amd64"]
        change(&finding)
        survey.findings[SystemdBoot()] = finding
        return survey
    }

    static func plan(_ survey: SystemBootSurvey) -> BootRepairPlan {
        BootRepair.plan(survey, options: Fixture.medium(.uefi))
    }

    @Test func fieldsOfAnEntry() {
        let entry = Self.entry("options root=UUID=x ro\noptions\tresume=/dev/sda4")
        #expect(entry.title == "Debian" && entry.version == "6.1.0-18-amd64" && entry.machineID == Self.machineID)
        #expect(entry.files.count == 2 && entry.name == "one")
        #expect(entry.words.map { "\($0.line) \($0.word) \($0.text)" } == ["5 1 root=UUID=x", "6 1 resume=/dev/sda4"])
        #expect(entry.optionsLine == 5 && entry.isEditable && entry.namesRoot)
        let hostile = LoaderEntry(
            "\u{0}\r\nlinux\r\noptions \r\n# options root=x\r\nlinux /a\r\noptions root=/dev/sda1\r\n", file: Self.esp,
            partition: 2)
        #expect(!hostile.isEditable && hostile.kernel == "/a" && hostile.words.count == 1)
        #expect(LoaderEntry("", file: Self.esp, partition: 2).files.isEmpty)
    }

    @Test func ownersOfEntries() {
        let kernels = OwnKernels(machineID: Self.machineID, versions: ["6.1.0-18-amd64"])
        #expect(kernels.isOwn(Self.entry("")) == true)
        func entry(_ text: String) -> LoaderEntry { LoaderEntry(text, file: Self.esp, partition: 2) }
        #expect(kernels.isOwn(entry("machine-id 0000\nversion 6.1.0-18-amd64")) == false)
        #expect(kernels.isOwn(entry("linux /vmlinuz-6.1.0-18-amd64")) == true)
        #expect(kernels.isOwn(entry("linux /x/6.1.0-18-amd64/linux")) == true)
        #expect(kernels.isOwn(entry("linux /vmlinuz-linux")) == nil)
        #expect(
            OwnKernels.isVersion("6.1.0-18-amd64") && !OwnKernels.isVersion("--help") && !OwnKernels.isVersion("6 1"))
    }

    @Test func aValidOneNeedsNothing() {
        let plan = Self.plan(Self.survey([Self.entry("options root=UUID=\(Fixture.rootUUID) ro")]))
        #expect(plan.isEmpty && plan.findings.isEmpty, "\(plan)")
        #expect(plan.alreadyRight.contains { $0.contains("\\EFI\\systemd\\systemd-bootx64.efi exists") })
    }

    @Test func referencesAreRewrittenInOwnEntriesOnly() throws {
        let lost =
            "options root=PARTUUID=5eed0009-0000-4000-8000-000000000009 resume=UUID=5eed0009-0000-4000-8000-000000000009 ro"
        let plan = Self.plan(Self.survey([Self.entry(lost), Self.entry(lost, isOwn: false, name: "other")]))
        #expect(plan.steps.count == 1, "\(plan)")
        #expect(plan.findings.map(\.code) == ["entry-root-lost"])
        guard case .editFile(let edit) = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(edit.file == Self.esp)
        #expect(edit.changes.map(\.to) == ["root=UUID=\(Fixture.rootUUID)", "resume=UUID=\(Fixture.swapUUID)"])
        #expect(plan.mounts.map(\.partition) == [2])
        // Written, the entry is valid.
        let text = WordChange.apply(edit.changes, to: "\n\n\n\n\n\(lost)\n")
        #expect(text.hasSuffix("options root=UUID=\(Fixture.rootUUID) resume=UUID=\(Fixture.swapUUID) ro\n"))
    }

    @Test func anEntryWithoutARoot() throws {
        let plan = Self.plan(Self.survey([Self.entry("options ro quiet")]))
        #expect(plan.findings.map(\.code) == ["entry-root-missing"])
        guard case .editFile(let edit) = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(
            WordChange.apply(edit.changes, to: "\n\n\n\n\noptions ro quiet")
                == "\n\n\n\n\noptions root=UUID=\(Fixture.rootUUID) ro quiet")
        var survey = Self.survey([Self.entry("options ro quiet")])
        survey.volumes[2].typeGUID = .init("4f68bce3-e8cd-4db1-96e7-fbcaf984b709") ?? .zero
        #expect(Self.plan(survey).findings.isEmpty)
    }

    @Test func missingFilesAreWrittenByTheSystem() {
        let options = "options root=UUID=\(Fixture.rootUUID)"
        let missing = Self.entry(options, missing: ["/x/linux"])
        let plan = Self.plan(Self.survey([missing]))
        #expect(plan.findings.map(\.code) == ["entry-file-missing"] && plan.findings[0].severity == .stops)
        guard case .runTool(let run, nil) = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(run.command == ["kernel-install", "add", "6.1.0-18-amd64", "/boot/vmlinuz-6.1.0-18-amd64"])
        #expect(run.needsESP)
        // With another whole entry, it may start.
        let both = Self.plan(Self.survey([missing, Self.entry(options, name: "two")]))
        #expect(both.findings.map(\.severity) == [.mayStop])
        // Without kernel-install there is no repair.
        let none = Self.plan(Self.survey([missing]) { $0.hasKernelInstall = false })
        #expect(none.steps.isEmpty && none.findings.map(\.code) == ["entry-file-missing"])
        let empty = Self.plan(Self.survey([]))
        #expect(empty.findings.map(\.code) == ["entries-missing"] && empty.steps.count == 1)
    }

    /// bootctl overwrites the fallback loader: where there is one, the file is copied.
    @Test func aMissingLoader() {
        var survey = Self.survey([Self.entry("options root=UUID=\(Fixture.rootUUID)")]) {
            ($0.loader, $0.isFallback) = (nil, false)
        }
        survey.esp = ESPSurvey(partition: 2)
        survey.nvram?.entries = []
        let plan = Self.plan(survey)
        #expect(plan.findings.contains { $0.code == "systemd-boot-missing" && $0.severity == .stops }, "\(plan)")
        guard case .runTool(let run, .copyFile(let copies)?) = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(run.command == ["bootctl", "install", "--no-variables", "--esp-path=/boot/efi"])
        #expect(copies.files.map(\.to) == ["EFI/systemd/systemd-bootx64.efi"])
        #expect(plan.steps.contains { "\($0)".contains("make the fallback loader") })
        #expect(plan.steps.contains { "\($0)".contains("add the firmware boot entry \"Linux Boot Manager\"") })
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        let foreign = Self.plan(survey)
        #expect(!foreign.steps.contains { $0.verb.needsPrograms }, "\(foreign)")
        guard case .copyFile = foreign.steps.first?.verb else {
            Issue.record("\(foreign)")
            return
        }
        #expect(!foreign.steps.contains { "\($0)".contains("fallback") })
        survey.findings[SystemdBoot()]?.packaged = nil
        #expect(Self.plan(survey).pendingReason?.contains("systemd-boot") == true)
    }

    @Test func seedsAreRemovedBehindARestoreOnly() {
        let survey = Self.survey([Self.entry("options root=UUID=\(Fixture.rootUUID)")]) { $0.hasSeed = true }
        #expect(Self.plan(survey).isEmpty)
        var options = Fixture.medium(.uefi)
        options.renewsSeeds = true
        let plan = BootRepair.plan(survey, options: options)
        #expect(
            plan.steps.map(\.verb) == [
                .removeFile(
                    FileRemoval(
                        TreePath(.esp, "loader/random-seed"), done: "removed systemd-boot's restored random seed"))
            ])
    }

    /// GRUB's own rows are silent on a disk without GRUB, and systemd-boot's on a disk that GRUB starts.
    @Test func oneLoaderStartsTheSystem() {
        var survey = Self.survey([Self.entry("options root=UUID=\(Fixture.rootUUID)")])
        survey.grub = Fixture.grub
        survey.grub?.configurationProblems = nil
        #expect(Self.plan(survey).isEmpty, "\(Self.plan(survey))")
        survey.esp?.loaders.append(Fixture.loader)
        survey.esp?.fallback = .copy(of: Fixture.loader.path)
        survey.findings[SystemdBoot()]?.isFallback = false
        #expect(!BootTarget(survey, Fixture.medium(.uefi)).usesSystemdBoot)
    }
}
