// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// What an export and a mount say about a disk.
@Suite struct ExportTextTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    /// The manifest of a disk of 16 MiB with a GPT and an ext4 of 8 MiB from 1 MiB on.
    private func manifest() throws -> Manifest {
        let disk = scratch.path.appending("disk.raw")
        try Files.write([UInt8](repeating: 0, count: 16 << 20), to: disk)
        let table = Array("label: gpt\nstart=2048, size=16384, type=L\n".utf8)
        let made = try ChildProcess.run(["sfdisk", "-q", disk.string], input: table)
        try #require(made.succeeded, "\(made.lastWords)")
        let formatted = try ChildProcess.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "files", "-E", "offset=1048576", disk.string, "8M"])
        try #require(formatted.succeeded, "\(formatted.lastWords)")
        let keys = KeyRing(FixedPassword(bytes: nil), KeptEvents(), Cancellation())
        return try OpenedImage.open(disk.string, keys).reader.header.manifest
    }

    private func codes(_ manifest: Manifest, isRestored: Bool = false) -> [String] {
        ExportRemarks.about(manifest, "disk", isRestored: isRestored).map(\.code)
    }

    @Test func aWholeDiskNeedsNoRemark() throws {
        let manifest = try manifest()
        #expect(codes(manifest).isEmpty && codes(manifest, isRestored: true).isEmpty)
        try ExportRemarks.refuse(manifest, "disk")
    }

    @Test func whatIsNoWholeDiskIsSaid() throws {
        var bare = try manifest()
        bare.table.kind = .none
        #expect(codes(bare) == ["no-partition-table"] && codes(bare, isRestored: true) == ["no-partition-table"])
        var half = try manifest()
        (half.table.kind, half.table.unknownKindName) = (.unknown, "GPT of a longer disk")
        #expect(codes(half) == ["unknown-partition-table"])
        #expect(ExportRemarks.about(half, "disk", isRestored: false)[0].text.contains("GPT of a longer disk"))
        var damaged = try manifest()
        damaged.table.condition = .backupDamaged
        #expect(codes(damaged) == ["damaged-partition-table"] && codes(damaged, isRestored: true).isEmpty)
        var gap = try manifest()
        let index = try #require(gap.regions.lastIndex { $0.kind == .gap })
        gap.regions[index].isSkipped = true
        #expect(codes(gap) == ["gaps-left-out"])
        try ExportRemarks.refuse(gap, "disk")
    }

    @Test func aDiskWithoutOneOfItsPartitionsIsRefused() throws {
        var manifest = try manifest()
        let index = try #require(manifest.regions.firstIndex { $0.partition == 1 })
        manifest.regions[index].isSkipped = true
        let error = #expect(throws: JobFailure.self) { try ExportRemarks.refuse(manifest, "disk") }
        #expect(error?.status == .refused && error?.message.contains("partition 1") == true)
    }

    @Test func factsOfTheCapturedMachineAreSaid() throws {
        var manifest = try manifest()
        manifest.geometry.logicalSectorSize = 4096
        #expect(codes(manifest) == ["sector-size"] && codes(manifest, isRestored: true).isEmpty)
        manifest.captureSet.count = 2
        manifest.mountedReadWrite = ["/srv"]
        #expect(codes(manifest, isRestored: true) == ["one-of-several", "captured-mounted"])
    }

    @Test func theFirmwareFollowsTheLoaders() throws {
        var manifest = try manifest()
        func start(_ boot: BootSurvey, _ captured: String) -> MachineStart {
            (manifest.boot, manifest.machine.firmware) = (boot, captured)
            return MachineStart(manifest, .qcow2, "a.qcow2", sectorSize: 512)
        }
        let (loaders, code) = ([#"\EFI\debian\grubx64.efi"#], "GRUB")
        #expect(start(BootSurvey(efiLoaders: loaders), "bios").firmware == .uefi)
        #expect(start(BootSurvey(biosBootCode: code), "uefi").firmware == .bios)
        #expect(start(BootSurvey(biosBootCode: code, efiLoaders: loaders), "uefi").firmware == .uefi)
        #expect(start(BootSurvey(biosBootCode: code, efiLoaders: loaders), "bios").firmware == .bios)
        #expect(start(BootSurvey(biosBootCode: code, efiLoaders: loaders), "unknown").firmware == .either)
        #expect(start(BootSurvey(), "uefi").firmware == .unknown)
        #expect(start(BootSurvey(efiLoaders: loaders), "uefi").command?.contains("OVMF") == true)
        #expect(
            start(BootSurvey(biosBootCode: code), "bios").command
                == "qemu-system-x86_64 -m 2G -drive file=a.qcow2,format=qcow2")
    }

    @Test func theCommandTakesEveryName() throws {
        var manifest = try manifest()
        let odd = MachineStart(manifest, .vhd, "my, it's.vhd", sectorSize: 512)
        #expect(odd.command == #"qemu-system-x86_64 -m 2G -drive 'file=my,, it'\''s.vhd,format=vpc'"#)
        let colon = MachineStart(manifest, .vhd, "2026-11-30T20:00.vhd", sectorSize: 512)
        #expect(colon.command?.contains("file=./2026-11-30T20:00.vhd,") == true)
        let large = MachineStart(manifest, .raw, "a.img", sectorSize: 4096)
        #expect(large.command?.contains("logical_block_size=4096") == true)
        manifest.machine.architecture = "aarch64"
        #expect(MachineStart(manifest, .qcow2, "a.qcow2", sectorSize: 512).command == nil)
    }

    @Test func aHypervisorHasItsOwnAdvice() throws {
        let manifest = try manifest()
        func start(_ hypervisor: Hypervisor) -> MachineStart {
            MachineStart(manifest, hypervisor.formats[0], "a b", sectorSize: 512, for: hypervisor)
        }
        #expect(start(.kvm).command?.contains("if=virtio") == true)
        for hypervisor in [Hypervisor.vmware, .hyperv, .virtualbox] {
            #expect(start(hypervisor).command == nil && start(hypervisor).advice?.contains(hypervisor.name) == true)
        }
        #expect(start(.vmware).advice?.contains("vmkfstools -i 'a b' ") == true)
        #expect(Hypervisor.hyperv.advice(.uefi, "a").contains("generation 2"))
        #expect(Hypervisor.hyperv.advice(.bios, "a").contains("generation 1"))
    }

    @Test func aMountListsItsPartitions() throws {
        let report = MountReport(image: "a", imageID: nil, path: "/m/disk.raw", manifest: try manifest())
        let row = try #require(report.partitions.first)
        #expect(report.partitions.count == 1 && row.number == 1 && row.offset == 1 << 20 && row.label == "files")
        #expect(
            row.command
                == "mount -t ext4 -o ro,noload,loop,offset=1048576,sizelimit=8388608 /m/disk.raw /mnt")
        #expect(report.hints(isRoot: true).contains { $0.contains("losetup") && $0.contains("--read-only") })
        // FUSE lets no other user read the file of a user, and root's losetup would fail.
        #expect(!report.hints(isRoot: false).contains { $0.contains("losetup") || $0.contains("/mnt") })
    }

    @Test func aRestoreIsNamedByItsOutput() {
        let events = KeptEvents()
        let part = PartEvents(events: events, hidden: "/tmp/x/disk", shown: "a.qcow2")
        part.log("wrote /tmp/x/disk")
        part.warn("code", "/tmp/x/disk is full")
        part.take(.planned(PlanText(["onto /tmp/x/disk"])))
        part.take(.finished(Report(operation: "restore", outcome: Outcome(.done))))
        #expect(
            events.all == [
                .log("wrote a.qcow2"), .notice(Notice("code", .warning, "a.qcow2 is full")),
                .planned(PlanText(["onto a.qcow2"])),
            ])
    }

    @Test func jobsContradictThemselves() {
        func contradiction(_ change: (inout ExportJob) -> Void) -> String? {
            var job = ExportJob(image: "a", output: "b.qcow2")
            change(&job)
            return job.contradiction
        }
        #expect(contradiction { _ in } == nil)
        #expect(contradiction { $0.image = "-" } != nil)
        #expect(contradiction { $0.output = "-" } != nil)
        #expect(contradiction { $0.byteCount = 0 } != nil)
        #expect(contradiction { $0.byteCount = 1000 } != nil)
        #expect(contradiction { $0.byteCount = 1 << 30 } == nil)
        #expect(contradiction { $0.luksKeyFiles = ["k"] } != nil)
        #expect(!ExportJob(image: "a", output: "b").isRestored)
    }
}
