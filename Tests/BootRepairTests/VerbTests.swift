// SPDX-License-Identifier: GPL-3.0-or-later
import FoundationEssentials
import Testing

@testable import BootRepair

struct VerbTests {
    static let write = GrubBIOSWrite(
        core: .onDisk(sectorCount: 100), coreSector: 2048, endSector: 4096, partition: 1, blockCount: 2)
    static let loader = PlannedLoader(folder: "debian", name: "grubx64.efi", isNew: false)
    static let entry = NVRAMEntry(number: "0007", label: "debian")

    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    static func expect(_ step: BootRepairStep, _ text: String...) throws {
        #expect(try json(step) == text.joined())
    }

    /// The format of `reforge boot-repair --json` predates the verbs, and is stable.
    @Test func jsonOfCommonSteps() throws {
        try Self.expect(
            .fixFstab([FstabChange(line: 0, from: "/dev/sda3", to: "UUID=x", mountPoint: "/")]),
            #"{"fixFstab":{"changes":[{"from":"/dev/sda3","line":0,"mountPoint":"/","to":"UUID=x"}]}}"#)
        try Self.expect(
            .makeFallback(Self.loader, replacing: true),
            #"{"makeFallback":{"from":"\\EFI\\debian","loader":"grubx64.efi","replacing":true}}"#)
        try Self.expect(
            .addEntry(for: Self.loader, on: Fixture.volumes[1], isNeeded: false),
            #"{"addNVRAMEntry":{"isNeeded":false,"label":"debian","partition":2,"#,
            #""partitionGUID":"5eed0002-0000-4000-8000-000000000002","path":"\\EFI\\debian\\grubx64.efi"}}"#)
        try Self.expect(.putFirst(Self.entry), #"{"orderNVRAMEntry":{"label":"debian","number":"0007"}}"#)
        try Self.expect(
            .remove(Self.entry, of: Fixture.guid(9)), #"{"removeNVRAMEntry":{"label":"debian","number":"0007","#,
            #""partitionGUID":"5eed0009-0000-4000-8000-000000000009"}}"#)
    }

    @Test func jsonOfGrubSteps() throws {
        try Self.expect(
            .runGrubInstall(
                platform: "i386-pc", command: ["grub-install"], again: false, otherwise: Self.write, by: "grub-bios"),
            #"{"runGrubInstall":{"again":false,"command":["grub-install"],"otherwise":{"bootImage":{"kept":{}},"#,
            #""core":{"onDisk":{"sectorCount":100}},"coreSector":2048,"endSector":4096,"partition":1},"#,
            #""platform":"i386-pc"}}"#)
        try Self.expect(
            .updateGrub(["update-grub"], folder: "/boot/grub", by: "grub-menu"),
            #"{"updateGrub":{"command":["update-grub"]}}"#)
        let made = GrubBIOSWrite.Core.made(
            modulesFolder: "/usr/lib/grub/i386-pc", prefix: "(,gpt3)/boot/grub", modules: ["ext2"])
        try Self.expect(
            .writeBIOSBoot(
                GrubBIOSWrite(
                    core: made, coreSector: 34, endSector: 2048, bootImage: .file(path: "/boot.img"), partition: 1),
                by: "grub-bios"),
            #"{"writeBIOSBoot":{"_0":{"bootImage":{"file":{"path":"/boot.img"}},"core":{"made":{"modules":["ext2"],"#,
            #""modulesFolder":"/usr/lib/grub/i386-pc","prefix":"(,gpt3)/boot/grub"}},"coreSector":34,"#,
            #""endSector":2048,"partition":1}}}"#)
    }

    /// A step without a record is shown as its verb.
    @Test func jsonOfAVerb() throws {
        let verb = BootVerb.changeNVRAM(.putFirst(number: "0007", label: "debian"))
        #expect(try Self.json(BootRepairStep("put it first", verb)) == Self.json(verb))
    }

    @Test func jsonOfAPlan() throws {
        let text = try Self.json(BootRepair.plan(Fixture.survey(.bios), options: Fixture.medium(.bios)))
        #expect(text.contains(#""grubFolder":"/boot/grub""#))
        #expect(!text.contains("configurationFolder"))
    }

    @Test func wordsOfALine() {
        let text = "title x\noptions  root=/dev/sda3   ro\n"
        func changed(_ change: WordChange) -> String { WordChange.apply([change], to: text) }
        #expect(
            changed(WordChange(line: 1, word: 1, from: "root=/dev/sda3", to: "root=/dev/sda30"))
                == "title x\noptions  root=/dev/sda30  ro\n")
        for other in [
            WordChange(line: 1, word: 1, from: "root=/dev/sda", to: "x"), WordChange(line: 7, from: "x", to: "y"),
            WordChange(line: 1, word: 9, from: "ro", to: "rw"), WordChange(line: 0, word: 1, from: "ro", to: "rw"),
        ] { #expect(changed(other) == text) }
    }

    @Test func sectorsThatDoNotFit() {
        func run(_ source: SectorRun.Source, end: UInt64, kept: [Range<Int>] = []) -> SectorRun {
            SectorRun(
                sector: 10, endSector: end, source: source,
                requirement: SectorRun.Requirement(byteCounts: 4...2000, texts: ["mark"], within: 8), kept: kept,
                patches: [SectorRun.Patch(at: 500, .followingSectorCount)], unsuitable: "unsuitable", tooLong: "long")
        }
        func sentence(_ run: SectorRun, _ content: [UInt8]?, over present: [UInt8] = []) -> String {
            do throws(SectorRun.Misfit) {
                let bytes = try run.composed(of: content, over: present)
                return "\(bytes.count)"
            } catch { return error.sentence }
        }
        let file = Array("mark".utf8) + [UInt8](repeating: 7, count: 1000)
        #expect(sentence(run(.ownFile("x"), end: 12), file) == "1024")
        #expect(sentence(run(.ownFile("x"), end: 11), file) == "long")
        #expect(sentence(run(.ownFile("x"), end: 9), file) == "long")
        #expect(sentence(run(.ownFile("x"), end: 12), Array(file.reversed())) == "unsuitable")
        #expect(sentence(run(.ownFile("x"), end: 12), nil) == "unsuitable")
        #expect(sentence(run(.ownFile("x"), end: 12), []) == "unsuitable")
        #expect(sentence(run(.ownFile("x"), end: 12, kept: [0..<4]), file) == "unsuitable", "nothing is there to keep")
        let sector = [UInt8](repeating: 0, count: 512)
        #expect(sentence(run(.present(sectorCount: 2), end: 12), nil, over: sector) == "512")
        #expect(sentence(run(.present(sectorCount: 0), end: 12), nil, over: sector) == "long")
        #expect(sentence(run(.present(sectorCount: .max), end: .max), nil, over: sector) == "long")
    }
}
