// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport
import Testing

@testable import BootRepair

@Suite struct GrubBIOSTests {
    /// A disk whose BIOS boot partition starts at 1 MiB.
    func disk(
        bootCode: UInt64? = 2048, core: [UInt8]? = Fixture.core(sectors: 60, start: 2048), at sector: Int = 2048
    ) -> MemoryDisk {
        var bytes = [UInt8](repeating: 0, count: 3 << 20)
        if let bootCode { bytes.replaceSubrange(0..<512, with: Fixture.bootSector(coreSector: bootCode)) }
        if let core { bytes.replaceSubrange(sector * 512..<sector * 512 + core.count, with: core) }
        return MemoryDisk(bytes)
    }

    @Test func aChainThatHolds() throws {
        let survey = try GrubBIOSReader.read(disk(), volumes: Fixture.volumes)
        #expect(
            survey
                == GrubBIOSFinding(
                    chain: .right, bootCode: .grub, biosBootPartition: 1, coreSector: 2048, coreSectorCount: 60))
    }

    @Test func theInstalledCoreIsRecognised() throws {
        var file = Fixture.core(sectors: 60, start: 0)
        // The fields that grub-install fills in: the block list and the sizes in the second sector.
        file[512 + 0x10] ^= 0xFF
        file.removeLast(100)
        #expect(try GrubBIOSReader.read(disk(), volumes: Fixture.volumes, installedCore: file).isInstalledCore == true)
        file[4000] ^= 1
        #expect(try GrubBIOSReader.read(disk(), volumes: Fixture.volumes, installedCore: file).isInstalledCore == false)
    }

    @Test func bootCodeThatLooksElsewhere() throws {
        let survey = try GrubBIOSReader.read(disk(bootCode: 34), volumes: Fixture.volumes)
        #expect(survey.chain == .misdirected)
        #expect(survey.problem == "the boot code points to sector 34; core.img is at 2048")
    }

    @Test func blockListThatLooksElsewhere() throws {
        let moved = disk(core: Fixture.core(sectors: 60, start: 4096))
        let survey = try GrubBIOSReader.read(moved, volumes: Fixture.volumes)
        #expect(survey.chain == .misdirected)
        #expect(survey.problem?.contains("sector 4097 instead of sector 2049") == true)
    }

    @Test func blockListThatLeadsOutOfThePartition() throws {
        let long = disk(core: Fixture.core(sectors: 2049, start: 2048))
        #expect(try GrubBIOSReader.read(long, volumes: Fixture.volumes).chain == .noCoreImage)
    }

    @Test func whatIsMissing() throws {
        #expect(try GrubBIOSReader.read(disk(bootCode: nil), volumes: Fixture.volumes).chain == .noBootCode)
        #expect(try GrubBIOSReader.read(disk(core: nil), volumes: Fixture.volumes).chain == .noCoreImage)
        #expect(try GrubBIOSReader.read(disk(bootCode: nil, core: nil), volumes: Fixture.volumes).chain == .noCoreImage)
        let data = Array(Fixture.volumes.dropFirst())
        #expect(try GrubBIOSReader.read(disk(bootCode: nil, core: nil), volumes: data).chain == .absent)
        let foreign = MemoryDisk([0xFA, 0x33, 0xC0] + [UInt8](repeating: 0x41, count: 4093))
        #expect(try GrubBIOSReader.read(foreign, volumes: []).chain == .foreign)
        #expect(try GrubBIOSReader.read(MemoryDisk(byteCount: 100), volumes: []).chain == .absent)
    }

    @Test func hostileNumbersAreNoTrap() throws {
        for sector in [UInt64.max, 1 << 55, 6143, 6144, 1] {
            _ = try GrubBIOSReader.read(disk(bootCode: sector), volumes: Fixture.volumes)
        }
        var core = Fixture.core(sectors: 60, start: 2048)
        core.setLittleEndian(UInt64.max, at: 500)
        #expect(try GrubBIOSReader.read(disk(core: core), volumes: Fixture.volumes).chain == .misdirected)
        // A list without an end.
        for offset in stride(from: 8, to: 508, by: 12) { core.setLittleEndian(0xFFFF as UInt16, at: offset) }
        _ = try GrubBIOSReader.read(disk(core: core), volumes: Fixture.volumes)
    }

    @Test func coreIsFoundAwayFromTheStart() throws {
        let survey = try GrubBIOSReader.read(
            disk(bootCode: 77, core: Fixture.core(sectors: 60, start: 77), at: 2080), volumes: Fixture.volumes)
        #expect(survey.coreSector == 2080)
        #expect(survey.chain == .misdirected)
    }

    @Test func blockListsOfSeveralRuns() throws {
        var first = Fixture.core(sectors: 60, start: 100)
        first.setLittleEndian(20 as UInt16, at: 508)
        first.setLittleEndian(121 as UInt64, at: 488)
        first.setLittleEndian(39 as UInt16, at: 496)
        first.setLittleEndian(0x820 + 20 * 0x20 as UInt16, at: 498)
        let blocks = GrubCoreImage.blocks(inFirstSector: first)
        #expect(blocks.map(\.sector) == [101, 121])
        #expect(GrubCoreImage.problem(ofBlocks: blocks, start: 100, end: 200) == nil)
        #expect(GrubCoreImage.problem(ofBlocks: blocks, start: 100, end: 159) != nil)
        let list = SectorRun(
            sector: 5000, endSector: 6000, source: .present(sectorCount: 60),
            patches: GrubCoreImage.patches(at: 5000, blockCount: blocks.count), unsuitable: "", tooLong: "")
        let moved = try list.composed(of: nil, over: Array(first.prefix(512)))
        #expect(
            GrubCoreImage.blocks(inFirstSector: moved) == [GrubBlock(sector: 5001, count: 59, segment: 0x820)])
        #expect(Array(moved[..<480]) == Array(first[..<480]))
    }

    @Test func readyingAFile() {
        var file = Fixture.core(sectors: 60, start: 1)
        file.removeLast(17)
        let run = GrubCoreImage.run(from: .systemFile("core.img"), at: 2048, endSector: 4096)
        let ready = try? run.composed(of: file, over: [])
        #expect(ready?.count == 60 * 512)
        #expect(ready.map { GrubCoreImage.blocks(inFirstSector: $0) }?.first?.sector == 2049)
        #expect((try? run.composed(of: [1, 2, 3], over: [])) == nil)
    }

    @Test func newBootCodeKeepsTheTable() throws {
        var old = [UInt8](repeating: 0xAB, count: 512)
        old[0x10] = 0x99
        let run = GrubBootSector.run(from: .systemFile("boot.img"), lookingForCoreAt: 2048)
        let bytes = try run.composed(of: Fixture.bootSector(coreSector: 1), over: old)
        let new = try #require(GrubBootSector(bytes))
        #expect(new.kind == .grub)
        #expect(new.coreSector == 2048)
        #expect(new.bytes[440...].allSatisfy { $0 == 0xAB })
        #expect(new.bytes[0x10] == 0x99)
        #expect(Array(new.bytes[0x64..<0x68]) == [0xFF, 0, 0x90, 0x90])
    }
}
