// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing
import WindowsFiles

@testable import BootRepair

/// The whole way on disks with FAT and NTFS: survey, plan, execution; judged by mtools, ntfs-3g and hivex.
@Suite(
    .serialized,
    .enabled(if: WindowsDisk.canBeMade, "needs root, FUSE, loop devices, fdisk, dosfstools, mtools and ntfs-3g"))
struct WindowsDiskTests {
    private static let store = WindowsFixture.store(
        manager: WindowsFixture.device(partition: WindowsDisk.oldESP, disk: WindowsDisk.oldDisk),
        system: WindowsFixture.device(partition: WindowsDisk.oldPartition, disk: WindowsDisk.oldDisk))
    private static let system = WindowsFixture.system([("storahci", 0, nil), ("stornvme", 3, 3), ("viostor", 3, nil)])

    @Test func aRestoredDiskIsRepairedInPlace() throws {
        let disk = try WindowsDisk(store: Self.store, system: Self.system)
        let before = try disk.bytes()
        let plan = try disk.plan()
        #expect(
            plan.steps.map(\.description) == [
                "point \\EFI\\Microsoft\\Boot\\BCD on partition 1 to this disk's partitions (device of "
                    + "\(WindowsFixture.loader): partition 3, osdevice of \(WindowsFixture.loader): partition 3, device "
                    + "of \(WindowsFixture.resume): partition 3, osdevice of \(WindowsFixture.resume): partition 3, "
                    + "device of \(WindowsFixture.bootManager): partition 1)",
                "let Windows on partition 3 start its driver for this machine's disk controller (NVMe): stornvme",
            ], "\(plan)")
        #expect(plan.pendingReason == nil, "\(plan)")
        #expect(
            plan.alreadyRight.contains(
                "the fallback loader \\EFI\\BOOT\\BOOTX64.EFI is a copy of \\EFI\\Microsoft\\Boot\\bootmgfw.efi"),
            "\(plan)")
        let outcome = try disk.execute(plan)
        #expect(outcome.pending == nil && outcome.changed.count == 2, "\(outcome)")
        // Exactly the planned bytes.
        let after = try disk.bytes()
        let patches = plan.steps.compactMap { if case .patchBytes(let patches) = $0.verb { patches } else { nil } }
        let changes = patches.flatMap(\.changes)
        for change in changes {
            #expect(Array(after[Int(change.offset)..<Int(change.offset) + change.to.count]) == change.to)
        }
        var restored = after
        for change in changes {
            restored.replaceSubrange(Int(change.offset)..<Int(change.offset) + change.from.count, with: change.from)
        }
        let nothingElse = restored == before
        #expect(nothingElse && changes.reduce(0) { $0 + $1.to.count } == 5 * 88 + 2 * 4)
        // Again: nothing to do.
        let again = try disk.plan()
        #expect(again.isEmpty, "\(again)")
        #expect(again.alreadyRight.contains("\\EFI\\Microsoft\\Boot\\BCD on partition 1 names this disk's partitions"))
        #expect(
            again.alreadyRight.contains(
                "Windows on partition 3 starts its driver for this machine's disk controller (stornvme)"))
        try judge(disk)
    }

    private func judge(_ disk: WindowsDisk) throws {
        let wanted = WindowsFixture.store(
            manager: WindowsFixture.device(partition: Fixture.guid(1), disk: Fixture.guid(0)),
            system: WindowsFixture.device(partition: Fixture.guid(3), disk: Fixture.guid(0)))
        let store = try disk.storeFromESP()
        #expect(try Files.read(store) == wanted)
        let hive = try disk.fromNTFS("Windows/System32/config/SYSTEM")
        guard ChildProcess.canFind("hivexregedit") else { return }
        let lines = try WindowsDisk.exported(hive)
        let old = disk.folder.path.appending("SYSTEM")
        let changed = zip(try WindowsDisk.exported(old), lines).filter { $0 != $1 }
        #expect(changed.map(\.0) == ["\"Start\"=dword:00000003", "\"0\"=dword:00000003"], "\(changed)")
        #expect(changed.map(\.1) == ["\"Start\"=dword:00000000", "\"0\"=dword:00000000"], "\(changed)")
        #expect(try WindowsDisk.exported(store).count == WindowsDisk.exported(disk.folder.path.appending("BCD")).count)
    }

    /// An MBR disk whose system moved, and got a new signature; another partition starts where the system was.
    @Test func aMovedPartitionOfAnMBRIsFound() throws {
        let system = WindowsFixture.device(start: WindowsDisk.mebibyte, signature: 0x1234_ABCD)
        let manager = WindowsFixture.device(start: WindowsDisk.mebibyte, signature: 0x0BAD_0BAD)
        let disk = try WindowsDisk(
            isGPT: false, store: WindowsFixture.store(manager: manager, system: system, folder: ""), system: Self.system
        )
        let plan = try disk.plan(WindowsDisk.options(.bios, nil))
        #expect(plan.steps.count == 1 && plan.pendingReason == nil, "\(plan)")
        #expect(
            plan.alreadyRight.contains(
                "the storage drivers of Windows are left alone: the machine that will start it is not known"))
        let outcome = try disk.execute(plan)
        #expect(outcome.pending == nil, "\(outcome)")
        let wanted = WindowsFixture.store(
            manager: WindowsFixture.device(start: WindowsDisk.mebibyte, signature: 0x1234_ABCD),
            system: WindowsFixture.device(start: WindowsDisk.windowsStart, signature: 0x1234_ABCD), folder: "")
        // The hiberfil element has no file on the disk: it follows those that named the same partition.
        #expect(try Files.read(disk.fromNTFS("Boot/BCD", at: WindowsDisk.mebibyte)) == wanted)
        #expect(try disk.plan(WindowsDisk.options(.bios, nil)).isEmpty)
    }

    /// Nothing is written where Windows has changes of its own, or goes on with an old state.
    @Test func doubtfulStatesAreRefused() throws {
        var dirty = Self.system
        dirty.setLittleEndian(99 as UInt32, at: 4)
        HiveMaker.correct(&dirty)
        var log = Array(Self.system[..<512]) + Array("HvLE".utf8) + [UInt8](repeating: 0, count: 508)
        log.setLittleEndian(512 as UInt32, at: 516)
        log.setLittleEndian(8 as UInt32, at: 524)
        let hibernated = Array("HIBR".utf8) + [UInt8](repeating: 1, count: 20_000)
        for (system, files, reason) in [
            (dirty, [:], "its sequence numbers 99 and 7 differ"),
            (Self.system, ["Windows/System32/config/SYSTEM.LOG2": log], "SYSTEM.LOG2 holds the newer entry 8"),
            (Self.system, ["hiberfil.sys": hibernated], "Windows is hibernated, or was shut down with fast startup"),
        ] as [([UInt8], [String: [UInt8]], String)] {
            let disk = try WindowsDisk(store: Self.store, system: system, files: files)
            let plan = try disk.plan()
            #expect(plan.pendingReason?.contains(reason) == true, "\(plan)")
            #expect(plan.steps.count == 1, "\(plan)")
            // The store on the ESP is another hive, on another filesystem.
            let before = try disk.bytes()
            let outcome = try disk.execute(plan)
            #expect(outcome.pending?.contains(reason) == true)
            let after = try disk.bytes()
            let same = before[Int(WindowsDisk.windowsStart)...] == after[Int(WindowsDisk.windowsStart)...]
            #expect(same)
        }
    }

    @Test func whatIsMissingIsNamed() throws {
        let disk = try WindowsDisk(store: Self.store, system: Self.system, drivers: ["storahci"])
        let plan = try disk.plan()
        #expect(
            plan.pendingReason?.contains("(NVMe): there is no \\Windows\\System32\\drivers\\stornvme.sys") == true,
            "\(plan)")
        let other = try disk.plan(WindowsDisk.options(.uefi, ["pci:v000015ADd000007C0sv000015ADsd000007C0bc01sc07i00"]))
        #expect(other.pendingReason?.contains("it has no service pvscsi, pvscsii") == true, "\(other)")
        let unknown = try disk.plan(WindowsDisk.options(.uefi, ["usb:v0781p5581"]))
        #expect(
            unknown.pendingReason == nil
                && unknown.findings.map(\.code).contains("windows-controller-unknown"), "\(unknown)")
    }

    /// Whatever part of the changes a power cut left on the disk, another run completes it.
    @Test func anInterruptedRepairIsCompleted() throws {
        let disk = try WindowsDisk(store: Self.store, system: Self.system)
        let plan = try disk.plan()
        let changes = plan.steps.compactMap {
            if case .patchBytes(let patches) = $0.verb { patches } else { nil }
        }.flatMap(\.changes)
        #expect(changes.count >= 7)
        func write(_ part: some Sequence<BytePatches.Change>, _ bytes: (BytePatches.Change) -> [UInt8]) throws {
            let target = try BlockDevice(opening: disk.image, .exclusiveWrite)
            for change in part { try target.writeBytes(bytes(change), at: change.offset) }
            try target.flush()
        }
        for count in 0...changes.count {
            try write(changes) { $0.from }
            try write(changes[..<count]) { $0.to }
            let outcome = try disk.execute(try disk.plan())
            #expect(outcome.pending == nil, "\(count): \(outcome)")
            let after = try disk.bytes()
            for change in changes {
                let isDone = Array(after[Int(change.offset)..<Int(change.offset) + change.to.count]) == change.to
                #expect(isDone, "\(count): byte \(change.offset)")
            }
        }
    }

    /// Bytes that changed after the survey, and a store that did, keep everything as it is.
    @Test func aChangeAfterTheSurveyIsSeen() throws {
        let disk = try WindowsDisk(store: Self.store, system: Self.system)
        let plan = try disk.plan()
        let patches = try #require(
            plan.steps.compactMap { if case .patchBytes(let patches) = $0.verb { patches } else { nil } }.first)
        let stamp = try #require(patches.unchanged.first)
        let target = try BlockDevice(opening: disk.image, .exclusiveWrite)
        // Windows wrote the store: its sequence number.
        try target.writeBytes([stamp.bytes[4] + 1], at: stamp.offset + 4)
        let before = try disk.bytes()
        let outcome = try disk.execute(plan)
        #expect(outcome.pending?.contains("the file has changed since the survey") == true, "\(outcome)")
        let after = try disk.bytes()
        let same = before[..<Int(WindowsDisk.windowsStart)] == after[..<Int(WindowsDisk.windowsStart)]
        #expect(same)
    }
}
