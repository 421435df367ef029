// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

@testable import BootRepair

/// Findings over made-up surveys: nothing is mounted, nothing runs.
struct DoctorTests {
    @Test(arguments: [Firmware.bios, .uefi])
    func aDiskThatStartsHasNoFindings(_ firmware: Firmware) {
        let report = DoctorReport(Fixture.survey(firmware), options: Fixture.medium(firmware), subject: "/dev/nvme0n1")
        #expect(report.findings.isEmpty && !report.stops, "\(report.lines)")
        #expect(!report.alreadyRight.isEmpty)
    }

    /// The damage is diagnosed, nothing else is, and the plan has the steps that the finding names.
    @Test(arguments: DoctorCase.all)
    func damageIsDiagnosed(_ damage: DoctorCase) throws {
        let plan = BootRepair.plan(damage.survey, options: damage.options)
        let finding = try #require(plan.findings.first { $0.code == damage.code }, "\(plan)")
        #expect(finding.severity == damage.severity)
        #expect(finding.isOpen != damage.isFixed, "\(finding)")
        #expect(Set(plan.findings.map(\.code)).subtracting(damage.implied) == [damage.code], "\(plan)")
        if case .steps(let steps) = finding.fix {
            #expect(!steps.isEmpty && steps.allSatisfy(plan.steps.map(\.description).contains), "\(plan)")
        }
        #expect((plan.pendingReason != nil) == plan.findings.contains { $0.pending != nil })
        // Boot repair must not call a disk done that will not start, except one that is not meant to.
        let remains = plan.findings.contains { $0.severity == .stops && $0.isOpen && $0.stage != .table }
        #expect(!remains || plan.pendingReason != nil, "\(plan)")
        let report = DoctorReport(damage.survey, options: damage.options, subject: "disk")
        #expect(report.stops == damage.stops)
        #expect(try DoctorReport(json: report.json()) == report)
    }

    /// Codes of no loader and of GRUB; those of the initramfs and other loaders' rows have their own tests.
    @Test func everyCodeHasADisk() {
        let rows: [any BootLoader] = [GrubBIOS(), GrubEFI(), GrubMenu()]
        let codes = Set((FindingCode.common + rows.flatMap(\.codes)).map(\.name))
        // A step of a row that breaks a rule: ToyLoaderTests. An export that could not be adapted: HypervisorTests.
        #expect(codes.subtracting(DoctorCase.all.map(\.code)) == ["step-refused", "not-adapted"])
    }

    @Test func findingsComeInTheOrderOfAStart() {
        var survey = Fixture.survey(.bios)
        survey.system = Fixture.system(Fixture.fstab + "/dev/sdb1 /data ext4 defaults 0 0\n")
        survey.system?.kernels = []
        survey.bios.chain = .misdirected
        survey.grub?.configurationProblems = ["it starts no kernel"]
        let found = BootRepair.plan(survey, options: Fixture.medium(.bios)).findings
        #expect(
            found.map(\.code) == ["grub-core-misdirected", "grub-menu-wrong", "kernel-missing", "fstab-elsewhere"])
    }

    /// What stops a start by one firmware is only a note on a machine with the other.
    @Test func theMachineDecidesTheSeverity() {
        var survey = Fixture.survey(.uefi)
        survey.bios.chain = .misdirected
        let options = BootRepairOptions(
            firmware: .uefi, inRecoveryEnvironment: false, machine: MachineRecord(firmware: .uefi))
        let report = DoctorReport(survey, options: options, subject: "disk")
        #expect(report.findings.map(\.code) == ["grub-core-misdirected"])
        #expect(report.findings.first?.severity == .note && !report.stops)
        // For any machine, it stops.
        let any = DoctorReport(survey, options: Fixture.workstation(.uefi), subject: "disk")
        #expect(any.findings.first?.severity == .stops && any.stops && any.machine == nil)
    }

    private static let mbr = PartitionTable(kind: .mbr, usable: 0..<1 << 30)

    /// Partition tools write code into the protective MBR of a GPT that only prints a message.
    @Test func codeBesideAGPTStartsNothing() {
        let loaders = ["\\EFI\\debian\\grubx64.efi"]
        let gpt = PartitionTable(kind: .gpt, usable: 0..<1 << 30)
        func codes(_ code: String, _ table: PartitionTable) -> [String] {
            ForeseenDisk(boot: BootSurvey(biosBootCode: code, efiLoaders: loaders), table: table, sectorSize: 512)
                .findings(for: MachineRecord(firmware: .bios)).map(\.code)
        }
        #expect(codes("unknown", gpt) == ["no-bios-boot"])
        #expect(codes("unknown", Self.mbr).isEmpty && codes("GRUB", gpt).isEmpty)
    }

    @Test func aRestoreForesees() {
        func codes(_ boot: BootSurvey, _ firmware: Firmware?, sectorSize: Int = 512) -> [String] {
            ForeseenDisk(boot: boot, table: Self.mbr, sectorSize: sectorSize)
                .findings(for: firmware.map { MachineRecord(firmware: $0) }).map(\.code)
        }
        let bios = BootSurvey(biosBootCode: "GRUB")
        let uefi = BootSurvey(efiLoaders: ["\\EFI\\debian\\grubx64.efi"])
        let both = BootSurvey(biosBootCode: "GRUB", efiLoaders: uefi.efiLoaders)
        #expect(codes(bios, .bios).isEmpty && codes(uefi, .uefi).isEmpty && codes(both, .uefi).isEmpty)
        #expect(codes(bios, .uefi) == ["no-uefi-boot"] && codes(uefi, .bios) == ["no-bios-boot"])
        #expect(codes(bios, nil).isEmpty && codes(uefi, nil).isEmpty)
        // Boot code without the core that it loads.
        let rest = BootSurvey(biosBootCode: "GRUB", biosCoreImageFound: false, efiLoaders: uefi.efiLoaders)
        #expect(codes(rest, .bios) == ["no-bios-boot"] && codes(rest, .uefi).isEmpty)
        #expect(codes(bios, nil, sectorSize: 4096) == ["grub-sector-size"])
        #expect(codes(both, .bios, sectorSize: 4096) == ["grub-sector-size"])
        #expect(codes(both, nil, sectorSize: 4096).isEmpty)
        #expect(codes(BootSurvey(), .uefi, sectorSize: 4096).isEmpty)
        let locked = ForeseenDisk(boot: uefi, table: Self.mbr, sectorSize: 512, bitLockerVolumes: ["partition 3"])
        #expect(locked.findings(for: nil).map(\.code) == ["bitlocker"])
    }

    /// A conversion of the plan makes the loader: the captured one's firmware is no obstacle then.
    @Test func aRestoreForeseesItsConversion() {
        func codes(_ boot: BootSurvey, _ conversion: TableConversion, _ firmware: Firmware) -> [String] {
            ForeseenDisk(boot: boot, table: Self.mbr, sectorSize: 4096, conversion: conversion)
                .findings(for: MachineRecord(firmware: firmware)).map(\.code)
        }
        let bios = BootSurvey(biosBootCode: "GRUB")
        let uefi = BootSurvey(efiLoaders: ["\\EFI\\debian\\grubx64.efi"])
        let toUEFI = TableConversion(goal: .uefi, diskGUID: Fixture.guid(0))
        #expect(codes(bios, toUEFI, .uefi).isEmpty)
        #expect(codes(bios, toUEFI, .bios) == ["no-bios-boot"])
        #expect(codes(uefi, TableConversion(goal: .bios), .bios) == ["grub-sector-size"])
        #expect(codes(uefi, TableConversion(goal: .bios), .uefi).isEmpty)
    }

    /// Said before the first write, as far as names of loaders tell.
    @Test func aRestoreForeseesSecureBoot() {
        let machine = MachineRecord(firmware: .uefi, secureBoot: true)
        func severities(
            _ loaders: [String], was: Bool? = nil, _ conversion: TableConversion? = nil, on: MachineRecord? = nil
        ) -> [Finding.Severity] {
            let boot = BootSurvey(biosBootCode: loaders.isEmpty ? "GRUB" : nil, efiLoaders: loaders)
            let disk = ForeseenDisk(
                boot: boot, table: Self.mbr, sectorSize: 512, wasSecureBoot: was, conversion: conversion)
            return disk.findings(for: on ?? machine).filter { $0.code == "secure-boot-unsigned" }.map(\.severity)
        }
        let grub = "\\EFI\\debian\\grubx64.efi"
        #expect(severities([grub]) == [.mayStop])
        #expect(severities([grub], was: true).isEmpty)
        #expect(severities([grub], on: MachineRecord(firmware: .uefi, secureBoot: false)).isEmpty)
        #expect(severities([grub, "\\EFI\\debian\\shimx64.efi"]).isEmpty)
        #expect(severities(["\\EFI\\Microsoft\\Boot\\bootmgfw.efi"]).isEmpty)
        #expect(severities([], TableConversion(goal: .uefi, diskGUID: Fixture.guid(0))) == [.mayStop])
    }

    /// A disk of data is restored too, and the one that is meant may be hidden.
    @Test func raidModeIsSaidBeforeEachRestore() {
        let raid = DeviceDriver(
            modalias: "pci:v00008086d00002822sv00001028sd00000738bc01sc04i00", driver: "ahci", module: "ahci")
        let machine = MachineRecord(firmware: .uefi, controllers: [raid])
        let found = ForeseenDisk(boot: BootSurvey(), table: Self.mbr, sectorSize: 512).findings(for: machine)
        #expect(found.map(\.code) == ["controller-raid-mode"])
    }

    /// A signed shim before an unsigned GRUB does not start with Secure Boot on.
    @Test func whatShimStartsMustBeSigned() {
        func findings(_ loaders: [(name: String, isSigned: Bool?)]) -> [Finding] {
            var survey = Fixture.survey(.uefi)
            let found = loaders.map {
                EFILoader(path: "\\EFI\\debian\\\($0.name)", byteCount: 1, isSigned: $0.isSigned)
            }
            survey.esp?.loaders = found
            survey.nvram?.entries = []
            let options = BootRepairOptions(
                firmware: .uefi, inRecoveryEnvironment: false,
                machine: MachineRecord(firmware: .uefi, secureBoot: true))
            return BootRepair.plan(survey, options: options).findings.filter { $0.code == "secure-boot-unsigned" }
        }
        let unsigned = findings([("shimx64.efi", true), ("grubx64.efi", false)])
        #expect(unsigned.map(\.evidence?.file) == ["\\EFI\\debian\\grubx64.efi"], "\(unsigned)")
        #expect(unsigned.first?.pending != nil)
        #expect(findings([("shimx64.efi", true), ("grubx64.efi", true)]).isEmpty)
        #expect(findings([("shimx64.efi", true), ("grubx64.efi", nil)]).isEmpty)
        #expect(findings([("shimx64.efi", true)]).isEmpty)
    }

    /// A disk that only its fallback loader starts.
    @Test func theFallbackLoaderMustBeSigned() {
        func severities(_ isSigned: Bool?, _ loaders: [EFILoader] = []) -> [Finding.Severity] {
            var survey = Fixture.survey(.uefi)
            survey.esp = ESPSurvey(partition: 2, loaders: loaders, fallback: .foreign(owner: "an unknown loader"))
            survey.esp?.fallbackIsSigned = isSigned
            survey.grubEFI = GrubEFIFinding()
            survey.grub = nil
            survey.access = .none
            let options = BootRepairOptions(
                firmware: .uefi, inRecoveryEnvironment: false,
                machine: MachineRecord(firmware: .uefi, secureBoot: true))
            return BootRepair.plan(survey, options: options).findings.filter { $0.code == "secure-boot-unsigned" }
                .map(\.severity)
        }
        #expect(severities(false) == [.stops] && severities(true).isEmpty && severities(nil).isEmpty)
        // Another loader may start it.
        let others = ["a", "b"].map { EFILoader(path: "\\EFI\\\($0)\\grubx64.efi", byteCount: 1, isSigned: true) }
        #expect(severities(false, others) == [.mayStop])
    }

    @Test func foreignFallbackWithoutEntriesStops() {
        var survey = Fixture.survey(.uefi)
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        survey.nvram = NVRAMSurvey(problem: "no variables")
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        let finding = plan.findings.first { $0.code == "firmware-entries-unreadable" }
        #expect(finding?.pending != nil && plan.pendingReason != nil)
    }

    /// A name in a file of the disk cannot move the cursor of a terminal.
    @Test func hostileNamesAreShownSafely() throws {
        var survey = Fixture.survey(.bios)
        survey.system = Fixture.system(
            Fixture.fstab + "/dev/\u{1B}[2J\u{202E}x /data ext4 defaults 0 0\n/dev/"
                + String(repeating: "y", count: 100_000) + " /more ext4 defaults 0 0\n")
        let report = DoctorReport(survey, options: Fixture.medium(.bios), subject: "disk")
        #expect(report.findings.count == 2)
        #expect(!report.lines.joined().unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{202E}" })
        #expect(try DoctorReport(json: report.json()) == report)
    }
}
