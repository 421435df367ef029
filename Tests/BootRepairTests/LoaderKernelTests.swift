// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel
import LinuxSystem
import SystemAccess
import Testing

@testable import BootRepair

/// The initramfs of boot entries and of unified kernel images on the EFI system partition.
struct LoaderKernelTests {
    static let version = "6.1.0-18-amd64"
    static let need = ModuleNeed(["ahci"], for: "ahci")

    static func kernel(_ unmet: [ModuleNeed] = [need], _ path: String = "/x/initrd.img") -> InstalledSystem.Kernel {
        InstalledSystem.Kernel(
            name: "/x/linux", initramfs: path, version: version, needs: [need],
            contents: InitramfsSurvey(
                generator: .dracut, isHostOnly: true, unmet: unmet, missing: unmet.flatMap(\.modules)))
    }

    static func entry(_ contents: InstalledSystem.Kernel, name: String = "one") -> LoaderEntry {
        var entry = LoaderEntryTests.entry("options root=UUID=\(Fixture.rootUUID)", name: name)
        entry.contents = contents
        return entry
    }

    @Test func anEntryThatLacksADriverIsWrittenAgain() throws {
        let plan = LoaderEntryTests.plan(LoaderEntryTests.survey([Self.entry(Self.kernel())]))
        #expect(plan.findings.map(\.code) == ["driver-missing"] && plan.findings[0].severity == .stops, "\(plan)")
        #expect(plan.findings[0].evidence == Finding.Evidence(partition: 2, file: "/x/initrd.img"))
        let rebuild = try #require(InitramfsPlanTests.rebuilds(plan).first)
        #expect(rebuild.command == ["kernel-install", "add", Self.version, "/boot/vmlinuz-\(Self.version)"])
        #expect(rebuild.place == .esp && rebuild.needsESP && !rebuild.isUnified && rebuild.modules == ["ahci"])
        #expect(plan.mounts.map(\.partition) == [3, 2])
        // Another entry starts.
        let both = LoaderEntryTests.plan(
            LoaderEntryTests.survey([Self.entry(Self.kernel()), Self.entry(Self.kernel([]), name: "two")]))
        #expect(both.findings.map(\.severity) == [.mayStop])
        // Nothing in the system writes it: boot repair is not finished.
        let none = LoaderEntryTests.plan(
            LoaderEntryTests.survey([Self.entry(Self.kernel())]) { $0.hasKernelInstall = false })
        #expect(none.steps.isEmpty && none.pendingReason?.contains("kernel-install") == true, "\(none)")
        let whole = LoaderEntryTests.plan(LoaderEntryTests.survey([Self.entry(Self.kernel([]))]))
        #expect(whole.isEmpty && whole.alreadyRight.contains { $0.contains("the boot entry one holds") }, "\(whole)")
    }

    /// Without a file, kernel-install would write the command line of the running machine.
    @Test func theEntryKeepsItsOptions() throws {
        let survey = LoaderEntryTests.survey([Self.entry(Self.kernel())])
        func line(_ change: (inout SystemBootSurvey) -> Void = { _ in }) -> KernelCommandLine? {
            var changed = survey
            change(&changed)
            return LoaderEntryTests.plan(changed).kernelCommandLine
        }
        let entry = try #require(survey.findings[SystemdBoot()]?.entries.first?.file)
        #expect(line() == KernelCommandLine(entry: entry, otherwise: "root=UUID=\(Fixture.rootUUID) ro"))
        #expect(line { $0.findings[SystemdBoot()]?.hasCommandLine = true } == nil)
        #expect(
            line {
                $0.findings[SystemdBoot()]?.entries[0].optionsLine = nil
                $0.system?.rootSubvolume = "@"
            } == KernelCommandLine(otherwise: "root=UUID=\(Fixture.rootUUID) rootflags=subvol=@ ro"))
        var unknown = survey
        unknown.findings[SystemdBoot()]?.entries[0].optionsLine = nil
        unknown.volumes[2].uuid = nil
        let plan = LoaderEntryTests.plan(unknown)
        #expect(InitramfsPlanTests.rebuilds(plan).isEmpty, "\(plan)")
        #expect(plan.pendingReason?.contains("/etc/kernel/cmdline") == true, "\(plan)")
    }

    @Test func aUnifiedImageThatLacksADriver() throws {
        func plan(_ change: (inout UnifiedKernelsFinding) -> Void = { _ in }) throws -> BootRepairPlan {
            LoaderEntryTests.plan(
                try UnifiedKernelTests.survey("root=UUID=\(Fixture.rootUUID)") { finding in
                    finding.kernelFiles[Self.version] = "/boot/vmlinuz-\(Self.version)"
                    for index in finding.images.indices {
                        finding.images[index].contents = Self.kernel([Self.need], "/EFI/Linux/x.efi")
                    }
                    change(&finding)
                })
        }
        let rebuild = try #require(InitramfsPlanTests.rebuilds(try plan()).first)
        #expect(rebuild.isUnified && rebuild.path == "/EFI/Linux/6.9.1.efi" && rebuild.place == .esp)
        let signed = try plan { for index in $0.images.indices { $0.images[index].isSigned = true } }
        #expect(InitramfsPlanTests.rebuilds(signed).isEmpty)
        #expect(signed.pendingReason?.contains("it is signed") == true, "\(signed)")
        let unsaid = try plan { $0.commandLineFile = nil }
        #expect(InitramfsPlanTests.rebuilds(unsaid).isEmpty && unsaid.pendingReason != nil)
    }

    /// With GRUB's hooks nothing is copied; with systemd-boot they need the partition.
    @Test func hooksOfTheGeneratorNeedThePartition() {
        #expect(
            InitramfsPlanTests.rebuilds(InitramfsPlanTests.plan(InitramfsPlanTests.lacking)).map(\.needsESP) == [false])
        var survey = LoaderEntryTests.survey([Self.entry(Self.kernel([]))])
        survey.system?.initramfsGenerators = [.initramfsTools]
        survey.system?.kernels = [
            InstalledSystem.Kernel(
                name: "vmlinuz-1", initramfs: "initrd.img-1", version: "1", needs: [Self.need],
                contents: InitramfsPlanTests.lacking)
        ]
        let plan = LoaderEntryTests.plan(survey)
        #expect(InitramfsPlanTests.rebuilds(plan).map(\.needsESP) == [true] && plan.mounts.map(\.partition) == [3, 2])
    }

    /// mkinitcpio's preset `fallback` starts the machine, too.
    @Test func aWholeFallbackImage() {
        var kernel = InstalledSystem.Kernel(
            name: "vmlinuz-linux", initramfs: "initramfs-linux.img", version: "1", needs: [Self.need],
            contents: InitramfsSurvey(generator: .mkinitcpio, unmet: [Self.need], missing: ["ahci"]))
        kernel.fallback = "initramfs-linux-fallback.img"
        func plan(_ generators: [InitramfsGenerator]) -> BootRepairPlan {
            var survey = Fixture.survey(.bios)
            survey.system?.initramfsGenerators = generators
            survey.system?.kernels = [kernel]
            return BootRepair.plan(survey, options: Fixture.medium(.bios))
        }
        #expect(plan([]).pendingReason != nil)
        kernel.fallbackIsWhole = true
        let none = plan([])
        #expect(none.pendingReason == nil && none.findings.map(\.severity) == [.mayStop], "\(none)")
        #expect("\(none)".contains("choose the entry with initramfs-linux-fallback.img"), "\(none)")
        // The first entry of the menu is rebuilt where that is possible.
        #expect(InitramfsPlanTests.rebuilds(plan([.mkinitcpio])).count == 1)
    }

    @Test func versionsOfEntries() {
        let kernels = OwnKernels(
            versions: ["5.15.0", "5.15.0-custom", "6.1"], kernelFiles: ["5.15.0": "/a", "5.15.0-custom": "/b"])
        func entry(_ text: String) -> LoaderEntry {
            LoaderEntry(text, file: TreePath(.esp, "/loader/entries/x.conf"), partition: 2)
        }
        for _ in 0..<8 {
            #expect(kernels.version(of: entry("linux /x/5.15.0-custom/linux")) == "5.15.0-custom")
        }
        #expect(kernels.version(of: entry("version 5.15.0\nlinux /x/5.15.0-custom/linux")) == "5.15.0")
        #expect(kernels.version(of: entry("linux /6.1/linux")) == nil)
        #expect(kernels.knownVersion(of: entry("linux /6.1/linux")) == "6.1")
    }

    /// A root that systemd finds by its type and opens stays so: with `root=`, it would not be opened.
    @Test func encryptedRootsAreFoundByTheirType() throws {
        var survey = LoaderEntryTests.survey([LoaderEntryTests.entry("options ro quiet")])
        var inner = Fixture.volume(5, 66..<1000, PartitionType.linuxFilesystem, .ext4, "ext4", "inner-uuid")
        inner.typeGUID = .zero
        inner.inside = BootVolume.Inside(partition: 3, containers: [.luks(uuid: Fixture.rootUUID)])
        survey.volumes.append(inner)
        survey.volumes[2].kind = .luks
        survey.volumes[2].kindName = "crypto_LUKS"
        survey.system?.rootPartition = 5
        survey.system?.fstab = []
        let other = LoaderEntryTests.plan(survey)
        #expect(other.findings.map(\.code) == ["entry-root-missing"] && other.steps.isEmpty, "\(other)")
        survey.volumes[2].typeGUID = .init("4f68bce3-e8cd-4db1-96e7-fbcaf984b709") ?? .zero
        let found = LoaderEntryTests.plan(survey)
        #expect(!found.findings.contains { $0.code == "entry-root-missing" }, "\(found)")
        // A Btrfs root in a subvolume is named with it.
        var subvolume = LoaderEntryTests.survey([LoaderEntryTests.entry("options ro")])
        subvolume.system?.rootSubvolume = "@"
        guard case .editFile(let edit)? = LoaderEntryTests.plan(subvolume).steps.first?.verb else {
            Issue.record("no edit")
            return
        }
        #expect(edit.changes.map(\.to) == ["options root=UUID=\(Fixture.rootUUID) rootflags=subvol=@"])
    }
}
