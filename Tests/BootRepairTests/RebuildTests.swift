// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
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

    /// Nothing is missing, and nothing is rebuilt.
    @Test func whatHoldsItsModulesStays() throws {
        let bench = try RebuildDisk(script: "exit 1", present: ["sd_mod", "ext4", "ahci", "libahci"])
        let plan = BootRepair.plan(try bench.survey(), options: RebuildDisk.options)
        #expect(plan.steps.allSatisfy { if case .rebuildInitramfs = $0.verb { false } else { true } }, "\(plan)")
        #expect(plan.alreadyRight.contains { $0.contains(Self.image) })
    }
}
