// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import BootRepair

@Suite struct NVRAMTests {
    @Test func version17() {
        let survey = NVRAMSurvey(
            efibootmgr: """
                BootCurrent: 0003
                Timeout: 0 seconds
                BootOrder: 0003,0000,0001
                Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)
                Boot0001  Windows Boot Manager\tHD(1,GPT,\(Fixture.guid(7)),0x800,0x32000)/File(\\EFI\\Microsoft\\Boot\\bootmgfw.efi)WINDOWS.........x...B.C.D.
                Boot0003* debian\tHD(2,GPT,\(Fixture.guid(2)),0x1000,0x20000)/File(\\EFI\\debian\\grubx64.efi)
                MirroredPercentageAbove4G: 0.00

                """)
        #expect(survey.bootOrder == ["0003", "0000", "0001"])
        #expect(survey.entries.map(\.number) == ["0000", "0001", "0003"])
        #expect(survey.entries.map(\.isActive) == [true, false, true])
        #expect(survey.entries.map(\.label) == ["UiApp", "Windows Boot Manager", "debian"])
        #expect(survey.entries[0].path == nil)
        #expect(survey.entries[1].path == "\\EFI\\Microsoft\\Boot\\bootmgfw.efi")
        #expect(survey.entry(for: "\\efi\\DEBIAN\\grubx64.efi", on: Fixture.guid(2))?.number == "0003")
        #expect(survey.entry(for: "\\EFI\\debian\\grubx64.efi", on: Fixture.guid(3)) == nil)
    }

    @Test func version18() {
        let survey = NVRAMSurvey(
            efibootmgr: """
                BootOrder: 000a
                Boot000A* debian\tHD(2,GPT,\(Fixture.guid(2)),0x1000,0x20000)/\\EFI\\debian\\shimx64.efi0000424f
                      dp: 04 01 2a 00 02 00 00 00
                    data: 00 00 42 4f
                """)
        #expect(survey.bootOrder == ["000A"])
        #expect(survey.entries.map(\.path) == ["\\EFI\\debian\\shimx64.efi"])
        #expect(survey.entries.first?.partitionGUID == Fixture.guid(2))
    }

    @Test(arguments: [
        "", "Boot", "Boot00", "Boot0000", "BootNext: 0001", "Boot0001* ", "Boot0001*\t", "BootXYZW* x\ty",
        "Boot0001* x\tHD(",
    ])
    func oddLines(_ line: String) { _ = NVRAMSurvey(efibootmgr: line) }
}
