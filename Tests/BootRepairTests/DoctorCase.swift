// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

@testable import BootRepair

/// A disk that is broken in one way, and what the doctor says of it.
struct DoctorCase: Sendable, CustomStringConvertible {
    /// The expected code.
    let code: String
    let severity: Finding.Severity
    /// Whether steps repair it.
    let isFixed: Bool
    let options: BootRepairOptions
    /// Other codes that the damage implies.
    let implied: Set<String>
    /// Whether the disk does not start, for this or what it implies.
    let stops: Bool
    let breakIt: @Sendable (inout SystemBootSurvey) -> Void

    var description: String { code }

    init(
        _ code: FindingCode, _ severity: Finding.Severity, fixed isFixed: Bool = false, _ options: BootRepairOptions,
        implies implied: Set<String> = [], stops: Bool? = nil,
        _ breakIt: @escaping @Sendable (inout SystemBootSurvey) -> Void
    ) {
        self.code = code.name
        self.severity = severity
        self.isFixed = isFixed
        self.options = options
        self.implied = implied
        self.stops = stops ?? (severity == .stops)
        self.breakIt = breakIt
    }

    /// The broken disk.
    var survey: SystemBootSurvey {
        var survey = Fixture.survey(options.firmware)
        breakIt(&survey)
        return survey
    }

    private static let bios = Fixture.medium(.bios)
    private static let uefi = Fixture.medium(.uefi)

    private static func on(_ machine: MachineRecord) -> BootRepairOptions {
        BootRepairOptions(firmware: machine.firmware, inRecoveryEnvironment: false, machine: machine)
    }

    private static let intelRAID = DeviceDriver(
        modalias: "pci:v00008086d00002822sv00001028sd00000738bc01sc04i00", driver: "ahci", module: "ahci")
    private static let shim = EFILoader(path: "\\EFI\\debian\\shimx64.efi", byteCount: 1)

    /// A case for each code that belongs to no loader or to GRUB.
    static let all: [DoctorCase] = firmware + bootCode + system

    private static let firmware = [
        DoctorCase(.noBIOSBoot, .stops, bios) { $0.bios = GrubBIOSFinding(chain: .absent) },
        DoctorCase(.noUEFIBoot, .stops, uefi) { $0.esp = nil },
        DoctorCase(.secureBootUnsigned, .stops, on(MachineRecord(firmware: .uefi, secureBoot: true))) {
            $0.esp?.loaders[0].isSigned = false
        },
        DoctorCase(.controllerRAIDMode, .mayStop, on(MachineRecord(firmware: .uefi, controllers: [intelRAID]))) { _ in
        },
        DoctorCase(.otherProcessor, .mayStop, on(MachineRecord(firmware: .uefi))) {
            $0.system?.programsRunHere = false
        },
        DoctorCase(.entryMissing, .note, fixed: true, uefi) { $0.nvram?.entries = [] },
        DoctorCase(.entryNotFirst, .mayStop, fixed: true, uefi) { $0.nvram?.bootOrder = ["0000"] },
        DoctorCase(.entryStale, .note, fixed: true, uefi) {
            $0.nvram?.entries.append(
                NVRAMEntry(number: "0007", label: "debian", partitionGUID: Fixture.guid(9), path: Fixture.loader.path))
        },
        DoctorCase(.entriesUnreadable, .note, uefi) { $0.nvram = NVRAMSurvey(problem: "no variables") },
        DoctorCase(.tableMissing, .stops, bios) { $0.tableKind = .none },
    ]

    private static let bootCode = [
        DoctorCase(.espUnreadable, .stops, uefi) { $0.esp = ESPSurvey(partition: 2, problem: "it is no FAT") },
        DoctorCase(.fallbackMissing, .mayStop, fixed: true, uefi) { $0.esp?.fallback = .none },
        DoctorCase(.fallbackForeign, .note, uefi) { $0.esp?.fallback = .foreign(owner: "Windows Boot Manager") },
        DoctorCase(.bootCodeForeign, .note, bios) { $0.bios = GrubBIOSFinding(chain: .foreign, bootCode: .other) },
        DoctorCase(.grubBootCodeMissing, .stops, fixed: true, bios) {
            $0.bios.chain = .noBootCode
            $0.bios.bootCode = .none
        },
        DoctorCase(.grubCoreMisdirected, .stops, fixed: true, bios) { $0.bios.chain = .misdirected },
        DoctorCase(.grubCoreMissing, .stops, fixed: true, bios) { $0.bios.chain = .noCoreImage },
        DoctorCase(.grubSectorSize, .stops, bios) { $0.sectorSize = 4096 },
        DoctorCase(
            .grubLoaderMissing, .stops, fixed: true, uefi, implies: ["fallback-missing", "firmware-entry-missing"]
        ) {
            $0.esp?.loaders = []
            $0.esp?.fallback = .none
            $0.nvram?.entries = []
        },
        DoctorCase(.grubLoaderLost, .stops, fixed: true, uefi) {
            $0.grubEFI?.loaders[0].searchedUUIDs = ["11111111-2222-3333-4444-555555555555"]
        },
        DoctorCase(
            .grubFromMedium, .note, uefi,
            implies: ["grub-loader-missing", "fallback-missing", "firmware-entry-missing", "esp-not-mounted"],
            stops: true
        ) { $0 = Fixture.formerBIOS(["i386-pc"]) },
        DoctorCase(.grubMBRNames, .mayStop, fixed: true, uefi) {
            let menu = "set root='hd0,msdos3'\n"
            let changes = GrubTableNames.changes(in: menu, volumes: Fixture.volumes, rootPartition: 3)
            $0.grub?.tableNames = [.init(path: "/boot/grub/grub.cfg", changes: changes)]
        },
        DoctorCase(.grubMenuWrong, .stops, fixed: true, bios) {
            $0.grub?.configurationProblems = ["it starts no kernel"]
        },
    ]

    private static let system = [
        DoctorCase(.kernelMissing, .stops, bios) { $0.system?.kernels = [] },
        DoctorCase(.luksSealed, .mayStop, bios) {
            $0.sealedVolumes = [SealedVolume(partition: 3, tokens: ["systemd-tpm2"])]
        },
        DoctorCase(.bitLocker, .mayStop, bios) {
            $0.volumes.append(
                Fixture.volume(5, 1200..<1300, PartitionType.microsoftBasicData, .unknown, "BitLocker", nil))
        },
        DoctorCase(.systemMissing, .note, bios) {
            $0.systemFindings = [Finding(.systemMissing, "no installed Linux system was found", fix: .none(""))]
            $0.system = nil
        },
        DoctorCase(.systemUnread, .mayStop, bios) {
            $0.systemFindings = [Finding(.systemUnread, "partition 3 could not be read", fix: .none(""))]
        },
        DoctorCase(.otherSystems, .note, bios) {
            $0.systemFindings = [Finding(.otherSystems, "there are other systems", fix: .none(""))]
        },
        DoctorCase(.fstabRootElsewhere, .mayStop, bios) {
            $0.system = Fixture.system("UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n")
        },
        DoctorCase(.fstabElsewhere, .mayStop, bios) {
            $0.system = Fixture.system(Fixture.fstab + "/dev/sdb1 /data ext4 defaults 0 0\n")
        },
        DoctorCase(.fstabDeviceName, .mayStop, fixed: true, bios) {
            $0.system = Fixture.system("/dev/sda3 / ext4 defaults 0 1\n")
        },
        DoctorCase(
            .espNotMounted, .note, fixed: true, uefi,
            implies: ["grub-loader-missing", "fallback-missing", "firmware-entry-missing"], stops: true
        ) { $0 = Fixture.formerBIOS(["i386-pc", "x86_64-efi"]) },
        DoctorCase(.resumeLost, .mayStop, bios) { $0.system?.lostResume = ["/dev/sda9"] },
    ]
}
