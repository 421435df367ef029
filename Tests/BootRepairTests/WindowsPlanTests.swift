// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import FoundationEssentials
import LinuxSystem
import SystemAccess
import TestSupport
import Testing
import WindowsFiles

@testable import BootRepair

/// Plans for Windows from made-up surveys.
struct WindowsPlanTests {
    private static let basicData = GUID("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7") ?? .zero
    private static let path = "\\EFI\\Microsoft\\Boot\\BCD"
    private static let manager = GUID(BCDStore.bootManager) ?? .zero
    static let loader = Fixture.guid(5)

    /// An ESP, and two NTFS.
    static func survey(_ firmware: Firmware = .uefi) -> SystemBootSurvey {
        var survey = Fixture.survey(firmware)
        survey.system = nil
        survey.findings = BootFindings()
        survey.volumes = [Fixture.volumes[1]]
        for number in [3, 4] {
            survey.volumes.append(
                BootVolume(
                    number: number, range: UInt64(number) << 30..<UInt64(number + 1) << 30, typeGUID: basicData,
                    guid: Fixture.guid(number), kind: .ntfs, kindName: "ntfs"))
        }
        let start = EFILoader(path: "\\EFI\\Microsoft\\Boot\\bootmgfw.efi", byteCount: 1000)
        survey.esp = ESPSurvey(partition: 2, loaders: [start], fallback: .none)
        survey.nvram = NVRAMSurvey(entries: [], bootOrder: [], attachedPartitions: (1...4).map(Fixture.guid))
        return survey
    }

    static func element(
        _ object: GUID, _ objectType: UInt32, names: BCDPartition, file: String? = nil, holders: [Int]?,
        type: UInt32 = BCDStore.ElementType.device
    ) throws -> WindowsFinding.Element {
        guard case .gpt(let partition, let disk) = names else { throw ParsingError.invalid(what: "the test") }
        let data = WindowsFixture.device(partition: partition, disk: disk)
        // In two pieces, as where clusters end inside it.
        return WindowsFinding.Element(
            object: object, objectType: objectType, type: type, names: names,
            data: [PlacedBytes(at: 5000, Array(data[..<40])), PlacedBytes(at: 90_000, Array(data[40...]))], file: file,
            holders: holders)
    }

    static func finding(_ elements: [WindowsFinding.Element]) -> WindowsFinding {
        var store = WindowsFinding.Store(partition: 2, path: path)
        store.elements = elements
        store.defaultObject = loader
        store.stamp = [PlacedBytes(at: 4096, Array("regf".utf8))]
        return WindowsFinding(stores: [store])
    }

    static func names(_ partition: Int, _ disk: Int = 0) -> BCDPartition {
        .gpt(partition: Fixture.guid(partition), disk: Fixture.guid(disk))
    }

    static func plan(
        _ finding: WindowsFinding, _ options: BootRepairOptions = Fixture.medium(.uefi),
        _ change: (inout SystemBootSurvey) -> Void = { _ in }
    ) -> BootRepairPlan {
        var survey = survey()
        survey.findings[WindowsBootManager()] = finding
        change(&survey)
        return BootRepair.plan(survey, options: options)
    }

    @Test func aRightStoreIsLeftAlone() throws {
        let plan = Self.plan(
            Self.finding([
                try Self.element(Self.manager, BCDStore.ObjectType.bootManager, names: Self.names(2), holders: [2]),
                try Self.element(
                    Self.loader, BCDStore.ObjectType.loader, names: Self.names(3), file: "\\x", holders: [3, 4]),
            ]))
        #expect(plan.alreadyRight.contains("\(Self.path) on partition 2 names this disk's partitions"), "\(plan)")
        // The fallback loader and the firmware's entry come by the common rules.
        #expect(
            plan.steps.map(\.description) == [
                "make the fallback loader \\EFI\\BOOT\\BOOTX64.EFI from \\EFI\\Microsoft\\Boot\\bootmgfw.efi",
                "add the firmware boot entry \"Windows Boot Manager\" for \\EFI\\Microsoft\\Boot\\bootmgfw.efi on partition 2",
            ], "\(plan)")
        guard case .copyFile(let copies)? = plan.steps.first?.verb else {
            Issue.record("no copy")
            return
        }
        #expect(copies.files.map(\.from.path) == ["EFI/Microsoft/Boot/bootmgfw.efi"])
        #expect(plan.pendingReason == nil)
    }

    /// Its own fallback loader of another version is kept, without a warning.
    @Test func anOtherVersionIsNotForeign() throws {
        let plan = Self.plan(Self.finding([])) { $0.esp?.fallback = .foreign(owner: "Windows Boot Manager") }
        #expect(!plan.findings.contains { $0.code.hasPrefix("fallback") }, "\(plan)")
        #expect(!plan.steps.contains { if case .copyFile = $0.verb { true } else { false } })
        let shim = Self.plan(Self.finding([])) {
            $0.esp?.fallback = .foreign(owner: "a shim that no vendor's folder holds")
        }
        #expect(
            shim.findings.contains { $0.code == "fallback-foreign" && $0.sentence.contains("belongs to a shim") },
            "\(shim)")
    }

    @Test func onlyTheDiskIsAnother() throws {
        let plan = Self.plan(
            Self.finding([
                try Self.element(
                    Self.loader, BCDStore.ObjectType.loader, names: Self.names(4, 9), file: "\\x", holders: [3, 4])
            ]))
        guard case .patchBytes(let patches)? = plan.steps.first(where: { $0.loader == "windows" })?.verb else {
            Issue.record("no patch: \(plan)")
            return
        }
        // Of the two pieces, only the one with the disk's GUID differs.
        #expect(patches.changes.count == 1 && patches.changes[0].offset == 90_000)
        #expect(
            patches.changes[0].to
                == Array(WindowsFixture.device(partition: Fixture.guid(4), disk: Fixture.guid(0))[40...]))
        #expect(patches.unchanged == [PlacedBytes(at: 4096, Array("regf".utf8))])
    }

    @Test func whatCannotBeToldIsNamed() throws {
        // Two systems could be the one.
        let two = Self.plan(
            Self.finding([
                try Self.element(
                    Self.loader, BCDStore.ObjectType.loader, names: Self.names(8, 9), file: "\\x", holders: [3, 4])
            ]))
        #expect(two.pendingReason?.contains("several partitions hold \\x: it is not changed") == true, "\(two)")
        // An entry for a system on another disk stops nothing.
        let other = Self.plan(
            Self.finding([
                try Self.element(
                    Fixture.guid(6), BCDStore.ObjectType.loader, names: Self.names(8, 9), file: "\\x", holders: [])
            ]))
        #expect(other.pendingReason == nil, "\(other)")
        #expect(
            other.findings.contains {
                $0.severity == .note && $0.sentence.contains("no partition of this disk holds \\x")
            }, "\(other)")
        #expect(!other.steps.contains { $0.loader == "windows" })
    }

    /// Entries of another disk stay, even where this disk holds a file of the same name.
    @Test func entriesOfOtherDisksStay() throws {
        let manager = try Self.element(
            Self.manager, BCDStore.ObjectType.bootManager, names: Self.names(8, 9), holders: [2])
        let own = try Self.element(
            Self.loader, BCDStore.ObjectType.loader, names: Self.names(7, 9), file: "\\x", holders: [3])
        let other = try Self.element(
            Fixture.guid(6), BCDStore.ObjectType.loader, names: Self.names(5, 6), file: "\\x", holders: [3])
        let plan = Self.plan(Self.finding([manager, other, own]))
        let step = try #require(plan.steps.first { $0.loader == "windows" })
        #expect(step.description.contains("{\(Self.loader)}: partition 3"), "\(plan)")
        #expect(!step.description.contains("{\(Fixture.guid(6))}"), "\(plan)")
        #expect(
            plan.findings.contains { $0.severity == .note && $0.sentence.contains("which is not this disk") },
            "\(plan)")
        #expect(plan.pendingReason == nil, "\(plan)")
        // Windows on another disk than its boot manager: as installers make it.
        let away = try Self.element(
            Self.loader, BCDStore.ObjectType.loader, names: Self.names(5, 6), file: "\\x", holders: [])
        let apart = Self.plan(Self.finding([manager, away]))
        #expect(apart.pendingReason == nil, "\(apart)")
        #expect(apart.findings.contains { $0.code == "windows-entry-lost" && $0.severity == .mayStop }, "\(apart)")
        // It is needed, and could be the one here.
        let doubtful = try Self.element(
            Self.loader, BCDStore.ObjectType.loader, names: Self.names(5, 6), file: "\\x", holders: [3])
        let unclear = Self.plan(Self.finding([manager, doubtful]))
        #expect(unclear.pendingReason?.contains("although partition 3 holds \\x") == true, "\(unclear)")
        // A partition keeps its GUID where only the disk's was changed.
        let near = try Self.element(
            Self.loader, BCDStore.ObjectType.loader, names: Self.names(4, 6), file: "\\x", holders: [3, 4])
        #expect(
            Self.plan(Self.finding([manager, near])).steps.contains {
                $0.description.contains("{\(Self.loader)}: partition 4")
            })
    }

    /// A power cut between two of them leaves enough to tell the rest.
    @Test func theBootManagersEntryIsWrittenLast() throws {
        func at(_ offset: UInt64, _ element: WindowsFinding.Element) -> WindowsFinding.Element {
            var placed = element
            placed.data = [PlacedBytes(at: offset, element.data.flatMap(\.bytes))]
            return placed
        }
        let elements = [
            at(
                1000,
                try Self.element(
                    Self.manager, BCDStore.ObjectType.bootManager, names: Self.names(8, 9), holders: [2])),
            at(
                2000,
                try Self.element(
                    Self.loader, BCDStore.ObjectType.loader, names: Self.names(7, 9), file: "\\x", holders: [3])),
            at(
                3000,
                try Self.element(Fixture.guid(5), BCDStore.ObjectType.resume, names: Self.names(7, 9), holders: nil)),
        ]
        guard
            case .patchBytes(let patches)? = Self.plan(Self.finding(elements)).steps.first(where: {
                $0.loader == "windows"
            })?.verb
        else {
            Issue.record("no patch")
            return
        }
        #expect(patches.changes.map(\.offset) == [3000, 2000, 1000])
    }

    /// The path is opened again after the steps on the mounted system.
    @Test func anotherDiskAtThePathIsNotWritten() throws {
        let folder = try ScratchFolder()
        let path = folder.path.appending("disk")
        try Files.write([UInt8](repeating: 0, count: 4096), to: path)
        let executor = BootRepairExecutor(plan: Self.plan(Self.finding([])), disk: try BlockDevice(opening: path))
        #expect(try executor.openForWriting().byteCount == 4096)
        try Files.remove(path)
        try Files.write([UInt8](repeating: 0, count: 4096), to: path)
        #expect(throws: SystemCallError.self) { try executor.openForWriting() }
    }

    /// What is inside of LUKS or RAID has the range of its partition, and is none.
    @Test func contentsOfContainersAreNoPartitions() throws {
        let element = try Self.element(
            Self.loader, BCDStore.ObjectType.loader, names: Self.names(8, 9), file: "\\x", holders: [9])
        let plan = Self.plan(Self.finding([element])) { survey in
            survey.volumes.append(
                BootVolume(
                    number: 9, range: 1 << 32..<2 << 32, typeGUID: .zero, guid: .zero, partUUID: "", kind: .ntfs,
                    kindName: "ntfs", inside: .init(partition: 4, containers: [.luks(uuid: nil)])))
        }
        #expect(!plan.steps.contains { $0.loader == "windows" }, "\(plan)")
        let inner = BootVolume(
            number: 9, range: 0..<1 << 20, typeGUID: .zero, guid: .zero, partUUID: "", kind: .ntfs, kindName: "ntfs",
            inside: .init(partition: 4, containers: [.mirror(uuid: nil, contents: 0..<1 << 20, members: [4])]))
        #expect(WindowsVolumes(MemoryDisk([UInt8](repeating: 0, count: 1 << 20)), [inner]).volumes.isEmpty)
    }

    /// An element whose file cannot be seen follows those that named the same partition, if they agree.
    @Test func elementsFollowTheirTwins() throws {
        let elements = [
            try Self.element(
                Self.loader, BCDStore.ObjectType.loader, names: Self.names(8, 9), file: "\\x", holders: [4]),
            try Self.element(Fixture.guid(7), BCDStore.ObjectType.resume, names: Self.names(8, 9), holders: nil),
        ]
        let plan = Self.plan(Self.finding(elements))
        #expect(
            plan.steps.first { $0.loader == "windows" }?.description.contains("{\(Fixture.guid(7))}: partition 4")
                == true)
        let torn = Self.plan(
            Self.finding(
                elements + [
                    try Self.element(
                        Fixture.guid(1), BCDStore.ObjectType.loader, names: Self.names(8, 9), file: "\\y", holders: [3]
                    )
                ]))
        #expect(
            torn.findings.contains { $0.code == "windows-entry-lost" && $0.sentence.contains("{\(Fixture.guid(7))}") },
            "\(torn)")
    }

    @Test func encryptedVolumesAreSaid() throws {
        let finding = Self.finding([
            try Self.element(Self.loader, BCDStore.ObjectType.loader, names: Self.names(3), file: "\\x", holders: nil)
        ])
        let plan = Self.plan(finding) { $0.volumes[1].kindName = "BitLocker" }
        #expect(plan.findings.contains { $0.code == "bitlocker" && $0.evidence?.partition == 3 }, "\(plan)")
        #expect(plan.alreadyRight.contains("\(Self.path) on partition 2 names this disk's partitions"))
    }

    @Test func aProblemOfTheStoreIsPendingWhereItMatters() throws {
        var finding = Self.finding([])
        finding.stores[0].problem = "it is damaged: the size of a cell"
        #expect(Self.plan(finding).pendingReason?.contains("was not checked: it is damaged") == true)
        let bios = Self.plan(finding, Fixture.medium(.bios)) { $0.firmware = .bios }
        #expect(bios.pendingReason?.contains("was not checked") != true, "\(bios)")
        #expect(bios.findings.contains { $0.code == "windows-store-unread" && $0.severity == .note })
        finding.stores = []
        #expect(Self.plan(finding).pendingReason?.contains("no boot configuration store") == true)
    }

    @Test func bothControlSetsMustHaveTheDriver() throws {
        func driver(_ set: UInt32, _ start: UInt32, hasFile: Bool = true) -> WindowsFinding.Driver {
            WindowsFinding.Driver(
                name: "stornvme", controlSet: set, startsAtBoot: start == 0, path: "\\Windows\\x.sys", hasFile: hasFile,
                words: start == 0
                    ? []
                    : [
                        WindowsFinding.Word(
                            value: start, data: [PlacedBytes(at: 7000, [3, 0, 0]), PlacedBytes(at: 9000, [0])])
                    ])
        }
        var finding = Self.finding([])
        var system = WindowsFinding.System(partition: 3, root: "\\Windows")
        system.drivers = [driver(1, 0), driver(2, 3)]
        finding.systems = [system]
        var options = Fixture.medium(.uefi)
        options.machine = WindowsDisk.machine(.uefi, WindowsDisk.nvme)
        let plan = Self.plan(finding, options)
        guard case .patchBytes(let patches)? = plan.steps.first(where: { $0.loader == "windows" })?.verb else {
            Issue.record("no patch: \(plan)")
            return
        }
        #expect(patches.changes == [BytePatches.Change(at: 7000, from: [3, 0, 0], to: [0, 0, 0])])
        // On a workstation, the disk may be for any machine.
        #expect(!Self.plan(finding, Fixture.workstation(.uefi)).steps.contains { $0.loader == "windows" })
        finding.systems[0].drivers = [driver(1, 0), driver(2, 3, hasFile: false)]
        #expect(Self.plan(finding, options).pendingReason?.contains("there is no \\Windows\\x.sys") == true)
        finding.systems[0].problem = "it is marked dirty"
        #expect(Self.plan(finding, options).pendingReason?.contains("were not checked: it is marked dirty") == true)
    }

    /// Findings are written and read, as those of the other rows.
    @Test func findingsAreCodable() throws {
        var survey = Self.survey()
        let finding = Self.finding([
            try Self.element(Self.loader, BCDStore.ObjectType.loader, names: Self.names(3), file: "\\x", holders: nil)
        ])
        survey.findings[WindowsBootManager()] = finding
        let read = try JSONDecoder().decode(SystemBootSurvey.self, from: try JSONEncoder().encode(survey))
        #expect(read == survey)
    }
}
