// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess
import TestSupport
import Testing
import WindowsFiles

@testable import BootRepair

/// What the doctor says of a Windows that cannot be repaired, or not be read.
struct WindowsDoctorTests {
    private static func plan(
        _ finding: WindowsFinding?, machine modaliases: [String]? = WindowsDisk.nvme, _ firmware: Firmware = .uefi,
        _ change: (inout SystemBootSurvey) -> Void = { _ in }
    ) -> BootRepairPlan {
        var survey = WindowsPlanTests.survey(firmware)
        survey.findings[WindowsBootManager()] = finding
        change(&survey)
        var options = Fixture.medium(firmware)
        options.machine = modaliases.map { WindowsDisk.machine(firmware, $0) }
        return BootRepair.plan(survey, options: options)
    }

    private static func store() throws -> WindowsFinding {
        WindowsPlanTests.finding([
            try WindowsPlanTests.element(
                WindowsPlanTests.loader, BCDStore.ObjectType.loader, names: WindowsPlanTests.names(3), file: "\\x",
                holders: nil)
        ])
    }

    private static func driver(_ name: String, _ start: UInt32) -> WindowsFinding.Driver {
        WindowsFinding.Driver(
            name: name, controlSet: 1, startsAtBoot: start == 0, path: "\\Windows\\x.sys", hasFile: true,
            words: start == 0
                ? [] : [WindowsFinding.Word(value: start, data: [PlacedBytes(at: 7000, [3, 0, 0, 0])])])
    }

    /// Its registry is in the encrypted volume: the drivers are not checked, and that is said.
    @Test func driversBehindBitLockerAreNotChecked() throws {
        let plan = Self.plan(try Self.store()) { $0.volumes[1].kindName = "BitLocker" }
        let finding = try #require(plan.findings.first { $0.code == "windows-unread" }, "\(plan)")
        #expect(finding.severity == .mayStop && finding.evidence?.partition == 3)
        #expect(plan.pendingReason == nil, "\(plan)")
        // An encrypted volume that no entry starts.
        let data = Self.plan(try Self.store()) { $0.volumes[2].kindName = "BitLocker" }
        #expect(!data.findings.contains { $0.code == "windows-unread" }, "\(data)")
    }

    @Test func unreadableVolumesAreSaid() throws {
        var finding = try Self.store()
        finding.unread = [WindowsFinding.Unread(partition: 3, reason: "it is damaged")]
        let needed = Self.plan(finding)
        #expect(needed.pendingReason?.contains("Windows on partition 3 could not be read: it is damaged") == true)
        #expect(Self.plan(finding, machine: nil).pendingReason == nil)
        finding.unread[0].partition = 4
        let other = Self.plan(finding)
        #expect(other.pendingReason == nil)
        #expect(other.findings.contains { $0.code == "windows-unread" && $0.severity == .mayStop }, "\(other)")
        // The survey finds them.
        let volume = BootVolume(
            number: 1, range: 0..<1 << 20, typeGUID: .zero, guid: .zero, kind: .ntfs, kindName: "ntfs")
        var surveyor = WindowsSurveyor(MemoryDisk([UInt8](repeating: 0, count: 1 << 20)), [volume])
        #expect(surveyor.survey()?.unread.map(\.partition) == [1])
    }

    /// A Windows of an MBR does not start by UEFI.
    @Test func aWindowsForBIOSDoesNotStartByUEFI() throws {
        var finding = WindowsFinding(stores: [WindowsFinding.Store(partition: 3, path: "\\Boot\\BCD")])
        finding.systems = [WindowsFinding.System(partition: 4, root: "\\Windows")]
        finding.systems[0].drivers = [Self.driver("stornvme", 0)]
        for (firmware, codes) in [(.uefi, ["no-uefi-boot"]), (.bios, [])] as [(Firmware, [String])] {
            let plan = Self.plan(finding, firmware) { survey in
                survey.tableKind = .mbr
                survey.diskSignature = 7
                survey.volumes.removeFirst()
                survey.esp = nil
            }
            #expect(plan.findings.filter { $0.severity == .stops }.map(\.code) == codes, "\(plan)")
        }
    }

    /// Nothing else of Windows can be read.
    @Test func aMissingStoreIsSaidWithoutASystem() {
        let plan = Self.plan(nil)
        #expect(plan.findings.contains { $0.code == "windows-store-missing" && $0.severity == .stops }, "\(plan)")
        let leftover = Self.plan(nil) { $0.system = Fixture.system() }
        #expect(
            leftover.findings.contains { $0.code == "windows-store-missing" && $0.severity == .note }, "\(leftover)")
    }

    /// One of the possible drivers starts already: the others are started too, but nothing is known to stop.
    @Test func aSecondDriverMayBeNeeded() throws {
        var finding = WindowsFinding()
        finding.systems = [WindowsFinding.System(partition: 3, root: "\\Windows")]
        let modalias = "pci:v00008086d00009A0Bsv00000000sd00000000bc01sc04i00"
        finding.systems[0].drivers = [Self.driver("iaStorVD", 0), Self.driver("iaStorV", 3)]
        let second = Self.plan(finding, machine: [modalias])
        #expect(second.findings.first { $0.code == "windows-driver-off" }?.severity == .mayStop, "\(second)")
        finding.systems[0].drivers = [Self.driver("iaStorVD", 3), Self.driver("iaStorV", 3)]
        let none = Self.plan(finding, machine: [modalias])
        #expect(none.findings.first { $0.code == "windows-driver-off" }?.severity == .stops, "\(none)")
    }
}
