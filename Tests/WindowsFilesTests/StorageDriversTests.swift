// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import WindowsFiles

struct StorageDriversTests {
    private static let bridge = "pci:v00008086d000034B0sv00008086sd00007270bc06sc04i00"

    private static func services(_ modaliases: String...) -> [[String]] {
        StorageDrivers.needs(for: modaliases + [bridge]).map(\.services)
    }

    @Test func controllersOfRealMachines() {
        // From sysfs of machines and QEMU.
        #expect(
            Self.services("scsi:t-0x00", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01") == [
                ["storahci", "msahci"]
            ])
        #expect(Self.services("pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02") == [["stornvme"]])
        #expect(
            Self.services("virtio:d00000002v00001AF4", "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00") == [
                ["viostor"]
            ])
        #expect(
            Self.services(
                "scsi:t-0x00", "virtio:d00000008v00001AF4", "pci:v00001AF4d00001048sv00001AF4sd00001100bc01sc00i00")
                == [["vioscsi"]])
        #expect(
            Self.services("pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80") == [
                ["pciide", "intelide"], ["atapi"],
            ])
        #expect(
            Self.services("scsi:t-0x00", "vmbus:d96361baa104294db60572e2ffb1dc7f", "acpi:VMBUS:VMBus:") == [
                ["storvsc"], ["vmbus"],
            ])
        #expect(Self.services("pci:v000015ADd000007C0sv000015ADsd000007C0bc01sc07i00") == [["pvscsi", "pvscsii"]])
        #expect(Self.services("pci:v00001000d00000054sv000015ADsd00001976bc01sc07i00") == [["LSI_SAS"]])
        #expect(
            Self.services("pci:v00001000d0000005Bsv00001028sd00001F35bc01sc04i00") == [
                ["megasas", "megasas2i", "megasas35i"]
            ])
        #expect(Self.services("pci:v00008086d000034C4sv00000000sd00000000bc08sc05i01") == [["sdbus"], ["sdstor"]])
    }

    /// Behind Intel's RAID functions, NVMe and AHCI disks are driven by their driver alone.
    @Test func raidFunctionsTakeTheirDisks() {
        let needs = StorageDrivers.needs(for: [
            "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02",
            "pci:v00008086d00009A0Bsv00008086sd00000000bc01sc04i00",
        ])
        #expect(needs.map(\.controller) == ["Intel RST or VMD"])
    }

    @Test func otherTextsAreNoControllers() {
        #expect(StorageDrivers.needs(for: []).isEmpty)
        for text in [
            "", ":", "pci:", "pci:v", "pci:v0000144Dd0000A808", "usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00",
            "virtio:d",
            "pci:v0000144Dd0000A808sv0000144Dsd0000A801bcGGscHHiII", String(repeating: "v", count: 10_000),
            "pci:v00008086d000015F3sv00008086sd00000000bc02sc00i00",
        ] {
            #expect(StorageDrivers.needs(for: [text]).isEmpty, "\(text.prefix(80))")
        }
    }
}
