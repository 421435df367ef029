// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage
import TestSupport
import Testing

@testable import BootRepair

/// extlinux: its configuration and plan, and its chain on a disk that SYSLINUX's own installer made.
struct ExtlinuxTests {
    static func finding(_ change: (inout ExtlinuxFinding) -> Void = { _ in }) -> ExtlinuxFinding {
        var finding = ExtlinuxFinding(bootCode: .gptAttribute, partition: 3, folder: "/boot/extlinux")
        (finding.hasBootRecord, finding.marked, finding.hasProgram) = (true, [3], true)
        finding.systemBootCode = "/usr/lib/EXTLINUX/gptmbr.bin"
        finding.configurations = [
            ExtlinuxConfiguration(
                "default l0\nlabel l0\n  linux /vmlinuz\n  append initrd=/initrd.img root=UUID=\(Fixture.rootUUID) ro\n",
                path: "/boot/extlinux/extlinux.conf")
        ]
        change(&finding)
        return finding
    }

    static func plan(_ finding: ExtlinuxFinding) -> BootRepairPlan {
        var survey = Fixture.survey(.bios)
        (survey.esp, survey.grub, survey.grubEFI) = (nil, nil, nil)
        survey.bios = GrubBIOSFinding(chain: finding.bootCode == .none ? .absent : .foreign)
        survey.findings[Extlinux()] = finding
        return BootRepair.plan(survey, options: Fixture.medium(.bios))
    }

    @Test func configuration() {
        let text = """
            DEFAULT menu.c32
            MENU INCLUDE theme.cfg
            INCLUDE linux.cfg
            LABEL l0
              MENU LABEL Debian
              KERNEL ../vmlinuz
              APPEND initrd=../a.img,/b.img root=/dev/sda3 ro
            label tool
              kernel memtest.bin
            """
        let read = ExtlinuxConfiguration(text, path: "/x")
        #expect(read.includes == ["theme.cfg", "linux.cfg"] && read.entries.count == 2)
        #expect(read.entries[0].files == ["../vmlinuz", "../a.img", "/b.img"])
        #expect(read.entries[0].words.map { "\($0.line) \($0.word) \($0.text)" } == ["6 2 root=/dev/sda3"])
        #expect(read.entries.map(\.startsKernel) == [true, false])
        #expect(ExtlinuxConfiguration("append root=x", path: "/x").entries.count == 1)
        #expect(ExtlinuxConfiguration("\u{FFFD}\0 \n label\n\r\n", path: "/x").entries.isEmpty)
    }

    @Test func aValidChainNeedsNothing() {
        let plan = Self.plan(Self.finding())
        #expect(plan.isEmpty && plan.findings.isEmpty, "\(plan)")
        #expect(plan.alreadyRight.contains { $0.contains("ldlinux.sys match") })
    }

    @Test func eachLinkIsRepaired() {
        let moved = Self.plan(Self.finding { $0.loaderProblem = "moved" })
        #expect(moved.findings.map(\.code) == ["extlinux-moved"])
        guard case .runTool(let run, nil) = moved.steps.first?.verb else {
            Issue.record("\(moved)")
            return
        }
        #expect(run.command == ["extlinux", "--install", "/boot/extlinux"])
        let code = Self.plan(Self.finding { $0.bootCode = .none })
        #expect(code.findings.map(\.code) == ["extlinux-boot-code"] && code.steps.count == 1, "\(code)")
        // Boot code for the table that the disk had before.
        #expect(Self.plan(Self.finding { $0.bootCode = .activePartition }).steps.count == 1)
        // Other boot code is kept, and GRUB's belongs to GRUB.
        let other = Self.plan(Self.finding { $0.bootCode = .other })
        #expect(other.steps.isEmpty && other.findings.map(\.severity) == [.note], "\(other)")
        #expect(!Self.finding { $0.bootCode = .grub }.isUsed)
        let mark = Self.plan(
            Self.finding {
                $0.marked = []
                $0.marking = [
                    SectorRun(
                        sector: 2, endSector: 3, source: .present(sectorCount: 1), patches: [], unsuitable: "",
                        tooLong: "")
                ]
            })
        #expect(mark.findings.map(\.code) == ["extlinux-mark"] && mark.steps.count == 1)
        let none = Self.plan(Self.finding { $0.marked = [1, 3] })
        #expect(none.steps.isEmpty && none.pendingReason != nil)
    }

    @Test func referencesAndFiles() {
        let plan = Self.plan(
            Self.finding {
                $0.configurations[0] = ExtlinuxConfiguration(
                    "label l0\nlinux /v\nappend initrd=/i root=/dev/sda3 resume=/dev/sda4\n",
                    path: "/boot/extlinux/extlinux.conf")
            })
        guard case .editFile(let edit) = plan.steps.first?.verb else {
            Issue.record("\(plan)")
            return
        }
        #expect(edit.changes.map(\.to) == ["root=UUID=\(Fixture.rootUUID)", "resume=UUID=\(Fixture.swapUUID)"])
        let missing = Self.plan(Self.finding { $0.configurations[0].entries[0].missing = ["/vmlinuz"] })
        #expect(missing.findings.map(\.code) == ["extlinux-file-missing"] && missing.steps.isEmpty)
    }

    // MARK: the mark in a table

    private static func table(_ label: String, _ lines: [String], _ body: (FilePath) throws -> Void) throws {
        let folder = try Files.makeTemporaryFolder("reforge-mark-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        let image = folder.appending("disk.raw")
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 16 << 20)
        }
        let made = try ChildProcess.run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string],
            input: Array(("label: \(label)\nunit: sectors\n" + lines.joined(separator: "\n") + "\n").utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        try body(image)
    }

    /// Each prefix of the writes leaves a valid table; sfdisk and sgdisk judge the result.
    @Test(
        .enabled(if: ["sfdisk", "sgdisk"].allSatisfy(ChildProcess.canFind), "needs sfdisk and sgdisk"),
        arguments: ["gpt", "dos"])
    func marksOnePartition(label: String) throws {
        let isGPT = label == "gpt"
        let marked = isGPT ? ", attrs=LegacyBIOSBootable" : ", bootable"
        let lines = ["start=2048, size=4096\(marked)", "start=6144, size=4096", "start=10240, size=4096"]
        try Self.table(label, lines) { image in
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            let table = try PartitionTableReader.read(disk)
            #expect(ExtlinuxMarking.marked(table) == [1])
            let runs = try ExtlinuxMarking.runs(marking: 3, table, of: disk)
            #expect(runs.count == (isGPT ? 4 : 1))
            for run in runs {
                let present = try disk.readBytes(at: run.sector * 512, count: 512)
                try disk.writeBytes(try run.composed(of: nil, over: present), at: run.sector * 512)
                let after = try PartitionTableReader.read(disk)
                #expect(after.partitions.count == 3)
            }
            try disk.flush()
            let after = try PartitionTableReader.read(disk)
            #expect(ExtlinuxMarking.marked(after) == [3] && after.condition == .intact)
            #expect(try ExtlinuxMarking.runs(marking: 3, after, of: disk).isEmpty)
            let dump = try ChildProcess.run(["sfdisk", "-d", image.string]).text.split(separator: "\n").suffix(3)
            let word = isGPT ? "LegacyBIOSBootable" : "bootable"
            #expect(dump.map { $0.contains(word) } == [false, false, true], "\(dump)")
            if isGPT {
                let verdict = try ChildProcess.run(["sgdisk", "--verify", image.string])
                #expect(verdict.succeeded && verdict.text.contains("No problems found"), "\(verdict.text)")
            }
        }
    }

    // MARK: the blocks

    private static let installs =
        SystemFacts.isRoot && Files.exists("/dev/loop-control")
        && ["extlinux", "mke2fs"].allSatisfy(ChildProcess.canFind)

    /// A filesystem that extlinux was installed in: the chain matches; after the blocks moved, it does not.
    @Test(.enabled(if: installs, "needs root, loop devices, e2fsprogs and extlinux"))
    func blocksOfAnInstalledLoader() throws {
        let folder = try Files.makeTemporaryFolder("reforge-extlinux-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        let script = """
            set -eu; cd "$1"; truncate -s 32M image; mke2fs -q -F -t ext4 image; mkdir mounted
            loop=$(losetup --find --show image); trap 'losetup --detach "$loop"' EXIT
            mount "$loop" mounted; mkdir -p mounted/boot/extlinux
            extlinux --install mounted/boot/extlinux; cp mounted/boot/extlinux/ldlinux.sys ldlinux.sys; umount mounted
            """
        let made = try ChildProcess.run([
            "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", folder.string,
        ])
        try #require(made.succeeded, "\(made.lastWords)")
        let file = try Files.read(folder.appending("ldlinux.sys"))
        let loader = try ExtlinuxLoader(file)
        #expect(loader.folder == "/boot/extlinux" && loader.extents.count >= 1)
        var bytes = try Files.read(folder.appending("image"))
        #expect(try loader.problem(in: MemoryDisk(bytes)) == nil)
        #expect(ExtlinuxLoader.isBootRecord(Array(bytes[..<512])))
        // A moved block; a boot record that looks elsewhere; none.
        let extent = try #require(loader.extents.last)
        bytes[Int(extent.sector) * 512 + 7] ^= 1
        #expect(try loader.problem(in: MemoryDisk(bytes))?.contains("not where") == true)
        bytes[Int(extent.sector) * 512 + 7] ^= 1
        bytes[loader.pointerOffsets.low] ^= 1
        #expect(try loader.problem(in: MemoryDisk(bytes)) != nil)
        bytes.replaceSubrange(0..<512, with: [UInt8](repeating: 0, count: 512))
        #expect(try loader.problem(in: MemoryDisk(bytes))?.contains("no boot record") == true)
        // Hostile files: any byte of the first sector, or of the areas it names, may be wrong.
        var generator = SeededGenerator(seed: 77)
        for _ in 0..<3000 {
            var broken = file
            for _ in 0..<3 {
                let place =
                    Bool.random(using: &generator)
                    ? Int.random(in: 0..<512, using: &generator)
                    : Int.random(in: 0..<file.count, using: &generator)
                broken[place] = UInt8.random(in: .min ... .max, using: &generator)
            }
            if let loader = try? ExtlinuxLoader(broken) { _ = try loader.problem(in: MemoryDisk(byteCount: 1 << 20)) }
        }
    }

    @Test func kindsOfBootCode() {
        var sector = [UInt8](repeating: 0, count: 512)
        #expect(MasterBootCode(sector) == .none)
        sector.replaceSubrange(100..<112, with: Array("Missing OS\r\n".utf8))
        #expect(MasterBootCode(sector) == .gptAttribute)
        sector.replaceSubrange(100..<124, with: Array("Missing operating system".utf8))
        #expect(MasterBootCode(sector) == .activePartition)
        #expect(MasterBootCode(Fixture.bootSector(coreSector: 1)) == .grub)
        sector = [UInt8](repeating: 1, count: 512)
        #expect(MasterBootCode(sector) == .other && MasterBootCode([]) == .none)
    }
}
