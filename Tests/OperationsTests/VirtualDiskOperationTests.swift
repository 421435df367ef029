// SPDX-License-Identifier: GPL-3.0-or-later
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// Disks of virtual machines as sources: captured and restored like the raw disk that they hold.
@Suite(
    .enabled(
        if: ChildProcess.canFind("qemu-img") && ChildProcess.canFind("qemu-storage-daemon"),
        "needs QEMU's tools"))
struct VirtualDiskOperationTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private var keys: KeyRing { KeyRing(FixedPassword(bytes: nil), events, Cancellation()) }

    private func shell(_ command: String) throws {
        let done = try ChildProcess.run(["sh", "-c", "set -e; cd '\(scratch.path)'; \(command)"])
        try #require(done.succeeded, "\(command): \(done.lastWords)")
    }

    /// A disk with a GPT and an ext4, in the file `plain.img`.
    private func makeDisk() throws {
        try shell(
            """
            truncate -s 16M part; mke2fs -q -F -t ext4 part
            seq 200000 >file; debugfs -w -R 'write file file' part 2>/dev/null
            truncate -s 24M plain.img
            printf 'label: gpt\\nstart=2048, size=8192\\nstart=12288, size=32768, type=L\\n' | sfdisk -q plain.img
            dd if=part of=plain.img bs=1M seek=6 conv=notrunc status=none
            """)
    }

    private func capture(_ disk: String, _ change: (inout CaptureJob) -> Void = { _ in }) throws -> FilePath {
        var job = CaptureJob(disk: path(disk), image: path("\(disk).img.zst"))
        change(&job)
        _ = try CaptureOperation(job, keys: keys, events: events, toolVersion: "test").run()
        return FilePath(job.image)
    }

    private func refusal(_ body: () throws -> Void) -> String {
        do {
            try body()
            Issue.record("it was done")
            return ""
        } catch { return JobFailure(error, cancellation: Cancellation()).message }
    }

    @Test(arguments: [
        ("a.qcow2", "-O qcow2"), ("b.vmdk", "-O vmdk -o subformat=streamOptimized"),
        ("c.vmdk", "-O vmdk -o subformat=twoGbMaxExtentFlat"), ("d.vhdx", "-O vhdx"), ("e.vdi", "-O vdi"),
        ("f.vhd", "-O vpc -o force_size=on"), ("g.vhd", "-O vpc -o subformat=fixed,force_size=on"),
    ]) func aCaptureEqualsThatOfTheRawDisk(name: String, options: String) throws {
        try makeDisk()
        try shell("qemu-img convert -f raw \(options) plain.img \(name)")
        let (one, other) = (try capture(name), try capture("plain.img"))
        try shell("zstd -q -dc \(one) >one; zstd -q -dc \(other) >other; cmp one other")
        let verified = try VerifyOperation(VerifyJob(image: path(name)), keys: keys, events: events).run()
        #expect(verified.isWhole)
        let shown = try InspectOperation(InspectJob(disk: path(name)), keys: keys, events: events).run()
        #expect(shown.volumes.contains { $0.filesystem.kind == .ext4 && $0.filesystem.mapSource != .whole })
        // As an image, it is restored onto a larger disk.
        try shell("truncate -s 32M target.img")
        var job = RestoreJob(image: path(name), disk: path("target.img"))
        (job.isConfirmed, job.verifies) = (true, true)
        let report = try RestoreOperation(job, keys: keys, events: events, confirmer: NoConfirmer()).run()
        #expect(report.diskState == .complete)
        try shell("e2fsck -fn 'target.img?offset=\(6 << 20)' >/dev/null")
        try shell("debugfs -R 'cat file' 'target.img?offset=\(6 << 20)' 2>/dev/null | cmp - file")
    }

    @Test func whatMakesNoSenseForAVirtualDiskIsRefused() throws {
        try makeDisk()
        try shell("qemu-img convert -f raw -O qcow2 plain.img a.qcow2; cp a.qcow2 raw.img")
        #expect(refusal { _ = try capture("a.qcow2") { $0.rescues = true } }.contains("--rescue"))
        #expect(refusal { _ = try capture("a.qcow2") { $0.usesSnapshots = true } }.contains("--snapshot"))
        // By a raw name it is none.
        #expect(refusal { _ = try capture("raw.img") }.contains("qcow2"))
        // As a target it stays what it is.
        let restored = refusal {
            var job = RestoreJob(image: path("plain.img"), disk: path("a.qcow2"))
            job.isConfirmed = true
            _ = try RestoreOperation(job, keys: keys, events: events, confirmer: NoConfirmer()).run()
        }
        #expect(restored.contains("reforge export"), "\(restored)")
    }

    /// The first bytes of a machine's disk were lost: what is left must not pass for a raw disk.
    @Test func aDamagedImageIsNotCapturedAsADisk() throws {
        try makeDisk()
        try shell("qemu-img convert -f raw -O qcow2 plain.img a.qcow2; truncate -s %512 a.qcow2")
        try shell("dd if=/dev/zero of=a.qcow2 bs=512 count=1 conv=notrunc status=none")
        #expect(refusal { _ = try capture("a.qcow2") }.contains("its name is that of a qcow2 image"))
        #expect(
            refusal { _ = try InspectOperation(InspectJob(disk: path("a.qcow2")), keys: keys, events: events).run() }
                .contains("its name is that of a qcow2 image"))
        _ = try capture("a.qcow2") { $0.takesImageAsDisk = true }
    }

    @Test func theBytesOfTheFileAreCapturedOnRequest() throws {
        try makeDisk()
        try shell("qemu-img convert -f raw -O qcow2 plain.img a.qcow2; truncate -s %512 a.qcow2")
        let image = try capture("a.qcow2") { $0.takesImageAsDisk = true }
        try shell("zstd -q -dc \(image) | cmp - a.qcow2")
    }

    @Test func aBaseElsewhereNeedsTheOption() throws {
        try makeDisk()
        try shell("mkdir vm; qemu-img create -q -f qcow2 -F raw -b ../plain.img vm/top.qcow2")
        #expect(refusal { _ = try capture("vm/top.qcow2") }.contains("--allow-backing"))
        let image = try capture("vm/top.qcow2") { $0.allowsBacking = true }
        let plain = try capture("plain.img")
        try shell("zstd -q -dc \(image) >one; zstd -q -dc \(plain) | cmp - one")
    }

    /// Every operation that reads an image passes the option on.
    @Test func exportAndImportOfABaseElsewhereNeedTheOption() throws {
        try makeDisk()
        try shell("mkdir vm; qemu-img create -q -f qcow2 -F raw -b ../plain.img vm/top.qcow2")
        var export = ExportJob(image: path("vm/top.qcow2"), output: path("out.qcow2"))
        #expect(
            refusal { _ = try ExportOperation(export, keys: keys, events: events).run() }.contains("--allow-backing"))
        export.allowsBacking = true
        _ = try ExportOperation(export, keys: keys, events: events).run()
        try shell("qemu-img convert -f qcow2 -O raw out.qcow2 back.img")
        try shell("debugfs -R 'cat file' 'back.img?offset=\(6 << 20)' 2>/dev/null | cmp - file")
        var job = ImportJob(source: path("vm/top.qcow2"), destination: path("imported.img.zst"))
        #expect(refusal { _ = try ImportOperation(job, keys: keys, events: events).run() }.contains("--allow-backing"))
        job.allowsBacking = true
        _ = try ImportOperation(job, keys: keys, events: events).run()
        #expect(Files.exists(FilePath(job.destination)))
    }

    @Test func aServedDiskTellsItsHolesAndItsChanges() throws {
        try makeDisk()
        try shell(
            """
            cp --sparse=never plain.img base.raw; qemu-img create -q -f qcow2 -F raw -b base.raw top.qcow2
            qemu-io -f qcow2 -c 'write -z 20M 2M' top.qcow2 >/dev/null
            """)
        let source = try ServedSource.open(path("top.qcow2"), keys)
        var (position, zeroByteCount): (UInt64, UInt64) = (0, 0)
        while position < source.disk.byteCount {
            for extent in try source.disk.extents(in: position..<source.disk.byteCount) {
                if extent.kind != .data { zeroByteCount += extent.byteCount }
                position += extent.byteCount
            }
        }
        #expect(zeroByteCount >= 2 << 20)
        try source.checkHeldStill()
        try shell("printf x | dd of=base.raw conv=notrunc bs=1 seek=4096 status=none")
        #expect(refusal { try source.checkHeldStill() }.contains("changed"))
    }

    /// Each kind of base: a disk with a host name, a disk of a virtual machine, an image, and a snapshot under names
    /// of its own.
    @Test(arguments: ["plain.img", "machine.qcow2", "disk.img.zst", "repo@lab/latest"])
    func anIncrementOfAnOverlayKeepsTheNamesOfItsBase(base: String) throws {
        try makeDisk()
        try shell(
            """
            echo den >name; debugfs -w -f - 'plain.img?offset=\(6 << 20)' >/dev/null 2>&1 <<EOF
            mkdir etc
            cd etc
            write name hostname
            EOF
            qemu-img convert -f raw -O qcow2 plain.img machine.qcow2
            """)
        _ = try InitRepositoryOperation(
            InitRepositoryJob(repository: path("repo")), keys: keys, likeKeys: keys, events: events
        ).run()
        switch base {
        case "disk.img.zst":
            _ = try CopyOperation(
                CopyJob(source: try capture("plain.img").string, destination: path("repo@")), keys: keys,
                targetKeys: keys, hasOwnPassword: false, events: events
            ).run()
            try Files.rename(FilePath(path("plain.img.img.zst")), to: FilePath(path(base)))
        case "repo@lab/latest":
            _ = try capture("plain.img") { ($0.image, $0.host, $0.diskName) = (path("repo@"), "lab", "system") }
        default: _ = try capture(base) { $0.image = path("repo@") }
        }
        let overlay = FilePath(path("trial.qcow2"))
        do {
            let source = try ServedSource.open(path(base), keys)
            try QemuOverlay.create(overlay, byteCount: source.disk.byteCount)
            try OverlayRecord(source).write(beside: overlay)
        }
        _ = try capture("trial.qcow2") { $0.image = path("repo@") }
        let found = try SnapshotsOperation(SnapshotsJob(repository: path("repo")), keys: keys, events: events).run()
        let names = found.snapshots.map { "\($0.host) \($0.disk)" }
        #expect(names.count == 2 && Set(names).count == 1, "\(names)")
        if base == "repo@lab/latest" { #expect(names.first == "lab system") }
        if base == "plain.img" { #expect(names.first?.hasPrefix("den ") == true) }
    }
}
