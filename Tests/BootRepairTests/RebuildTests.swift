// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem
import SystemPackage
import Testing

@testable import BootRepair

/// T4: an initramfs without the driver of the target's controller, and generators that do and do not make a better one.
@Suite(.serialized, .enabled(if: RebuildDisk.canBeMade, "needs root, loop devices, busybox-static, cpio and e2fsprogs"))
struct RebuildTests {
    static let image = RebuildDisk.image
    static let kept = RebuildDisk.image + InitramfsRebuild.suffix

    @Test func aRebuildThatHoldsTheModules() throws {
        let bench = try RebuildDisk(
            script: """
                [ "$4" = \(RebuildDisk.version) ] || exit 7
                /bin/busybox cp /etc/initramfs-tools/conf.d/zz-reforge /spare/override || exit 8
                /bin/busybox cp /spare/whole \(Self.image)
                """)
        let old = try bench.file(Self.image)
        let survey = try bench.survey()
        let kernel = try #require(survey.system?.kernels.first)
        #expect(kernel.version == RebuildDisk.version && kernel.contents?.missing == ["libahci", "ahci"])
        #expect(kernel.contents?.isHostOnly == true && survey.system?.initramfsGenerators == [.initramfsTools])
        let codes = BootRepair.plan(survey, options: RebuildDisk.options).findings.map(\.code)
        #expect(codes.contains("driver-missing") && !codes.contains("initramfs-one-machine"))
        let outcome = try bench.repair()
        #expect(outcome.pending == nil && outcome.changed.count == 2, "\(outcome)")
        #expect(try bench.file(Self.kept) == old && bench.file(Self.image) == bench.file("/spare/whole"))
        let list = try bench.file("/etc/initramfs-tools/modules") ?? []
        #expect(String(decoding: list, as: UTF8.self) == "# list\nloop\nahci\n")
        // MODULES=dep is overridden while it runs, and only then.
        #expect(try bench.file("/spare/override") != nil)
        #expect(try bench.file("/etc/initramfs-tools/conf.d/zz-reforge") == nil)
        // Again: nothing is missing.
        let again = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
        #expect(!again.findings.contains { $0.code == "driver-missing" })
        #expect(again.steps.allSatisfy { if case .rebuildInitramfs = $0.verb { false } else { true } })
    }

    @Test(
        arguments: [
            "/bin/busybox cp /spare/lacking \(image)", "/bin/busybox cp /spare/whole \(image); exit 1", "exit 0",
            "echo junk > \(image)", "/bin/busybox rm \(image)", ": > \(image)",
            "/bin/busybox rm \(image); /bin/busybox mkfifo \(image)",
            "/bin/busybox rm \(image); /bin/busybox ln -s /../../../../../../etc/passwd \(image)",
            "/bin/busybox cp /spare/whole \(image); /bin/busybox rm -r /lib/modules/\(RebuildDisk.version)",
        ])
    func theOldOneGoesBack(_ script: String) throws {
        let bench = try RebuildDisk(script: script)
        let old = try bench.file(Self.image)
        #expect(old != nil)
        let outcome = try bench.repair()
        #expect(outcome.changed.isEmpty && outcome.pending?.contains("is in its place again") == true, "\(outcome)")
        #expect(try bench.file(Self.image) == old && bench.file(Self.kept) == nil)
        let list = try bench.file("/etc/initramfs-tools/modules") ?? []
        #expect(String(decoding: list, as: UTF8.self) == "# list\nloop")
        #expect(try bench.file("/etc/initramfs-tools/conf.d/zz-reforge") == nil)
    }

    /// The configuration cannot be written, or not restored: the old one goes back all the same.
    @Test func theOldOneGoesBackWithoutTheConfiguration() throws {
        let bench = try RebuildDisk(
            script: "/bin/busybox cp /spare/lacking \(Self.image); /bin/busybox rm -r /etc/initramfs-tools")
        let old = try bench.file(Self.image)
        let outcome = try bench.repair()
        #expect(outcome.pending?.contains("is in its place again") == true, "\(outcome)")
        #expect(outcome.pending?.contains("still names its modules") == true, "\(outcome)")
        #expect(try bench.file(Self.image) == old && bench.file(Self.kept) == nil)
        let unwritable = try RebuildDisk(script: "/bin/busybox cp /spare/whole \(Self.image)") { tree in
            let list = tree.appending("etc/initramfs-tools/modules")
            try Files.remove(list)
            try Files.makeFolders(list.appending("a"))
        }
        let present = try unwritable.file(Self.image)
        let refused = try unwritable.repair()
        #expect(refused.pending?.contains("is in its place again") == true && refused.changed.isEmpty, "\(refused)")
        #expect(try unwritable.file(Self.image) == present && unwritable.file(Self.kept) == nil)
    }

    /// A new one that no longer opens the encrypted root is none, whatever its modules are.
    @Test func referencesThatHeldMustStay() throws {
        let array = InitramfsReference(file: "etc/mdadm/mdadm.conf", target: .array("x"))
        let luks = InitramfsReference(file: "cryptroot/crypttab", target: .luks("y"))
        let copied = InitramfsReference(file: "etc/crypttab", target: .luks("z"))
        let resume = InitramfsReference(file: "conf/conf.d/resume", target: .device("UUID=r"), purpose: .resume)
        let old = [array, luks, copied, resume].filter(\.isForTheStart)
        #expect(old == [array, luks])
        #expect(InitramfsReference.lost(old, from: [luks]) == [array] && InitramfsReference.lost(old, from: old) == [])
        var rebuild = try #require(
            InitramfsRebuild(
                .initramfsTools, version: RebuildDisk.version, path: Self.image, modules: ["ahci"], isHostOnly: true,
                needs: []))
        rebuild.references = old
        let bench = try RebuildDisk(script: "/bin/busybox cp /spare/whole \(Self.image)")
        let present = try bench.file(Self.image)
        var plan = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
        plan.steps = [.rebuildInitramfs(rebuild, isNew: false)]
        plan.pendingReason = nil
        let outcome = try BootRepair.execute(plan, disk: try BlockDevice(opening: bench.disk.path))
        #expect(outcome.pending?.contains("no longer names x, y") == true, "\(outcome)")
        #expect(try bench.file(Self.image) == present)
    }

    /// A power cut during a rebuild left half a file: it does not replace the one that is kept.
    @Test(arguments: [false, true])
    func whatAnInterruptedRebuildKeptStays(_ isMade: Bool) throws {
        var old: [UInt8] = []
        let bench = try RebuildDisk(script: isMade ? "/bin/busybox cp /spare/whole \(Self.image)" : "exit 1") { tree in
            let image = tree.appending(String(Self.image.dropFirst()))
            old = try Files.read(image)
            try Files.write(old, to: tree.appending(String(Self.kept.dropFirst())))
            try Files.write(Array(old.prefix(100)), to: image)
        }
        let outcome = try bench.repair()
        #expect((outcome.pending == nil) == isMade, "\(outcome)")
        #expect(try bench.file(isMade ? Self.kept : Self.image) == old)
        if isMade { #expect(try bench.file(Self.image) == bench.file("/spare/whole")) }
    }

    /// systemd-boot starts a copy on the EFI system partition, which update-initramfs alone does not reach.
    @Test(.enabled(if: BootSurveyor.kernelKnows("vfat"), "needs a kernel that mounts FAT"))
    func theCopyOfTheLoaderIsRebuilt() throws {
        let copied = "/bin/busybox cp \(Self.image) /boot/efi\(RebuildDisk.copy)"
        let bench = try RebuildDisk(
            script: "/bin/busybox cp /spare/whole \(Self.image)",
            kernelInstall: "[ \"$1 $2\" = \"add \(RebuildDisk.version)\" ] || exit 7\n\(copied)")
        let old = try bench.fileOnESP(RebuildDisk.copy)
        let survey = try bench.survey()
        let lacking = BootRepair.plan(survey, options: RebuildDisk.options).findings.filter {
            $0.code == "driver-missing"
        }
        #expect(lacking.map { $0.evidence?.partition } == [nil, 2], "\(lacking)")
        let outcome = try bench.repair(steps: 2)
        #expect(outcome.pending == nil, "\(outcome)")
        #expect(try bench.fileOnESP(RebuildDisk.copy) == bench.file("/spare/whole"))
        #expect(try old != nil && bench.fileOnESP(RebuildDisk.copy + InitramfsRebuild.suffix) == old)
        let again = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
        #expect(!again.findings.contains { $0.code == "driver-missing" }, "\(again)")
        // A kernel-install that does nothing is no repair of the copy, though /boot is whole.
        let idle = try RebuildDisk(script: "/bin/busybox cp /spare/whole \(Self.image)", kernelInstall: "exit 0")
        let present = try idle.fileOnESP(RebuildDisk.copy)
        let pending = try idle.repair(steps: 2)
        #expect(pending.pending?.contains("The old one is in its place again") == true, "\(pending)")
        #expect(try idle.fileOnESP(RebuildDisk.copy) == present)
        #expect(try idle.fileOnESP(RebuildDisk.copy + InitramfsRebuild.suffix) == nil)
    }

    /// Nothing is missing, and nothing is rebuilt.
    /// kernel-install would write the command line of the machine that runs it.
    @Test func kernelInstallIsGivenTheCommandLineOfTheEntry() throws {
        func commandLine(_ prepare: @escaping (FilePath) throws -> Void, _ line: KernelCommandLine?) throws -> String? {
            let bench = try RebuildDisk(script: "exit 9") { tree in
                let path = tree.appending("usr/sbin/kernel-install")
                let script = "#!/bin/busybox sh\n/bin/busybox cp /etc/kernel/cmdline /spare/cmdline\n"
                try Files.write(Array(script.utf8), to: path)
                try Files.setPermissions(path, FilePermissions(rawValue: 0o755))
                try prepare(tree)
            }
            var plan = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
            var run = ToolRun(["kernel-install", "add", "1", "/x"], success: .needed(consequence: "no entry"))
            run.needsESP = false
            plan.steps = [BootRepairStep("run", .runTool(run, otherwise: nil), by: "systemd-boot")]
            plan.mounts = [.init(partition: 1, path: "/")]
            plan.kernelCommandLine = line
            let outcome = try BootRepair.execute(plan, disk: try BlockDevice(opening: bench.disk.path))
            let made = try bench.file("/spare/cmdline").map { String(decoding: $0, as: UTF8.self) }
            #expect((outcome.changed == ["ran kernel-install add 1 /x"]) == (made != nil), "\(outcome)")
            if made != "own\n" { #expect(try bench.file("/etc/kernel/cmdline") == nil) }
            return made
        }
        let entry = TreePath(.system, "/boot/loader/entries/one.conf")
        func write(_ text: String, _ name: String) -> (FilePath) throws -> Void {
            { tree in
                let path = tree.appending(name)
                try Files.makeFolders(path.removingLastComponent())
                try Files.write(Array(text.utf8), to: path)
            }
        }
        let one = write(
            "title x\noptions root=UUID=1 \trd.luks.uuid=2\noptions quiet\n", "boot/loader/entries/one.conf")
        let whole = KernelCommandLine(entry: entry, otherwise: "root=UUID=3 ro")
        #expect(try commandLine(one, whole) == "root=UUID=1 rd.luks.uuid=2 quiet\n")
        #expect(try commandLine({ _ in }, KernelCommandLine(otherwise: "root=UUID=3 ro")) == "root=UUID=3 ro\n")
        // The entry is gone: nothing is written instead.
        #expect(try commandLine({ _ in }, whole) == nil)
        #expect(try commandLine(write("own\n", "etc/kernel/cmdline"), whole) == "own\n")
    }

    @Test func whatHoldsItsModulesStays() throws {
        let bench = try RebuildDisk(script: "exit 1", present: ["sd_mod", "ext4", "ahci", "libahci"])
        let plan = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
        #expect(plan.steps.allSatisfy { if case .rebuildInitramfs = $0.verb { false } else { true } }, "\(plan)")
        #expect(plan.alreadyRight.contains { $0.contains(Self.image) })
    }
}
