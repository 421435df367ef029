// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport
import Testing

@testable import BootRepair

/// Records and reports from elsewhere are read strictly.
struct MachineRecordTests {
    static let record = MachineRecord(
        firmware: .uefi, secureBoot: true, vendor: "Dell Inc.", product: "OptiPlex 7010",
        controllers: [DeviceDriver(modalias: "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02", module: "nvme")],
        disks: [
            .init(
                name: "nvme0n1", model: "Samsung SSD", transport: "nvme", byteCount: 1 << 40,
                devices: [
                    DeviceDriver(
                        modalias: "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02", driver: "nvme",
                        module: "nvme")
                ])
        ])

    static func text(_ record: MachineRecord = record) throws -> String {
        String(decoding: try DoctorJSON.encode(record), as: UTF8.self)
    }

    @Test func aRecordComesBack() throws {
        #expect(try MachineRecord(json: Array(Self.text().utf8)) == Self.record)
        let own = MachineRecord.current()
        #expect(try MachineRecord(json: DoctorJSON.encode(own)) == own)
    }

    @Test(arguments: [
        ("\"version\":1", "\"version\":2", "version 2"), ("\"version\":1", "\"version\":0", "no valid version"),
        ("reforge-machine", "other", "no record of a machine"), ("\"firmware\":\"uefi\"", "\"firmware\":\"efi\"", ""),
        ("\"secureBoot\"", "\"secureboot\"", "unknown member secureboot"),
        ("\"model\"", "\"modle\"", "unknown member modle"),
        ("\"controllers\":[{\"modalias", "\"controllers\":[{\"modalais", "unknown member modalais"),
        ("\"driver\":\"nvme\",", "\"drivers\":\"nvme\",", "unknown member drivers"),
        ("\"sectorSize\":512", "\"sectorSize\":0", "sectors of 0"),
        ("\"sectorSize\":512", "\"sectorSize\":513", "sectors of 513"),
        ("\"byteCount\":1099511627776", "\"byteCount\":-1", ""), ("Dell", "\\u001b[2J", "control characters"),
        ("\"disks\":[", "\"disks\":7,\"x\":[", ""), ("\"name\":\"nvme0n1\",", "", "name is missing"),
    ])
    func otherTextsAreRefused(_ old: String, _ new: String, _ reason: String) throws {
        let text = try Self.text()
        let changed = try #require(text.range(of: old)).apply(to: text, new)
        let error = #expect(throws: DoctorError.self) { try MachineRecord(json: Array(changed.utf8)) }
        #expect(error?.description.contains(reason) == true, "\(error.map { "\($0)" } ?? "")")
    }

    /// A spare machine often has no disk yet, only the stick that recorded it.
    @Test func aMachineWithoutDisksHasControllers() {
        let ahci = DeviceDriver(modalias: "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", driver: "ahci")
        let cards = DeviceDriver(modalias: "pci:v00008086d00005ACAsv00001028sd000007A2bc08sc05i01", driver: "sdhci-pci")
        let usb = DeviceDriver(modalias: "pci:v00008086d00001E31sv00001028sd0000052Cbc0Csc03i30", driver: "xhci_hcd")
        let stick = MachineRecord.Disk(name: "sda", transport: "usb", byteCount: 1 << 30, devices: [usb])
        var machine = MachineRecord(firmware: .uefi, controllers: [ahci, cards], disks: [stick])
        #expect(machine.devices(behind: nil) == [[ahci]])
        machine.controllers = []
        #expect(machine.devices(behind: nil) == [[usb]])
        machine.disks = []
        #expect(machine.devices(behind: nil).isEmpty)
        #expect(Self.record.devices(behind: nil) == Self.record.disks.map(\.devices))
    }

    @Test func longAndDeepTextsAreRefused() {
        #expect(throws: DoctorError.self) {
            try MachineRecord(json: [UInt8](repeating: 32, count: MachineRecord.longestJSON + 1))
        }
        let deep = Array(repeating: UInt8(ascii: "["), count: 100_000)
        #expect(throws: DoctorError.self) { try MachineRecord(json: deep) }
        #expect(throws: DoctorError.self) { try DoctorReport(json: deep) }
        #expect(throws: DoctorError.self) { try MachineRecord(json: []) }
    }

    @Test func noiseNeverTraps() throws {
        var random = SeededGenerator(seed: Sample.seed())
        let text = Array(try Self.text().utf8)
        for _ in 0..<2000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? MachineRecord(json: bytes)
        }
    }

    /// The agent that sends a report may have been taken over.
    @Test func reportsOfUnknownCodesAreRefused() throws {
        var survey = Fixture.survey(.bios)
        survey.bios.chain = .misdirected
        let report = DoctorReport(survey, options: Fixture.medium(.bios), subject: "disk")
        let text = String(decoding: try report.json(), as: UTF8.self)
        for (old, new) in [
            ("grub-core-misdirected", "grub-core-unknown"), ("\"boot-code\"", "\"loader\""), ("BIOS: ", "\\u001b[2J"),
            ("\"schema\":1", "\"schema\":2"), ("\"steps\"", "\"step\""),
        ] {
            let changed = try #require(text.range(of: old), "\(old)").apply(to: text, new)
            #expect(throws: DoctorError.self, "\(old)") { try DoctorReport(json: Array(changed.utf8)) }
        }
        // What it claims about itself does not count.
        let lie = try #require(text.range(of: "\"stops\":true")).apply(to: text, "\"stops\":false")
        #expect(try DoctorReport(json: Array(lie.utf8)).stops)
    }
}

extension String {
    /// The first occurrence of a text, without Foundation.
    fileprivate func range(of text: String) -> TextRange? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return TextRange(range: start..<index(start, offsetBy: text.count)) }
            start = index(after: start)
        }
        return nil
    }
}

private struct TextRange {
    var range: Range<String.Index>
    func apply(to text: String, _ new: String) -> String { text[..<range.lowerBound] + new + text[range.upperBound...] }
}
