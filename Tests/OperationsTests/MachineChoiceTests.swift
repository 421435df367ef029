// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Emulator
import ImageModel
import JobModel
import SystemPackage
import TestSupport
import Testing

@testable import Operations

@Suite struct MachineChoiceTests {
    private static let byteCount: UInt64 = 1 << 30
    private static let espGUID = GUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") ?? .zero

    private func manifest(
        transport: String = "sata", sector: Int = 512, firmware: String = "bios", code: String? = "GRUB",
        loaders: [String] = [], architecture: String = "x86_64", filesystem: FilesystemInfo.Kind = .ext4
    ) -> Manifest {
        let esp = Partition(
            number: 2, range: 1 << 20..<65 << 20, typeGUID: Self.espGUID, guid: GUID.random(), name: "", attributes: 0)
        return Manifest(
            imageUUID: .random(), captureSet: .init(uuid: .random()), toolVersion: "test",
            machine: MachineFacts(architecture: architecture, firmware: firmware),
            disk: DiskIdentity(path: "/dev/sda", serial: "S/N 1,2", transport: transport),
            geometry: DiskGeometry(byteCount: Self.byteCount, logicalSectorSize: sector, physicalSectorSize: 4096),
            table: PartitionTable(kind: .gpt, usable: 0..<Self.byteCount, partitions: [esp]), tableHead: [],
            tableTail: [],
            boot: BootSurvey(biosBootCode: code, efiLoaders: loaders),
            regions: [
                .init(
                    kind: .disk, range: 0..<Self.byteCount,
                    filesystem: FilesystemInfo(
                        kind: filesystem, kindName: filesystem.rawValue, mapSource: .allocationStructures),
                    usedByteCount: 0)
            ], chunkByteCount: 1 << 20, level: 3, allSectors: false, mountedReadWrite: [], usedByteCount: 0,
            started: "2026-11-22T15:00:00Z", localOffsetSeconds: 0)
    }

    private func choice(
        _ manifest: Manifest, free: UInt64? = 16 << 30, hasKVM: Bool = false,
        _ change: (inout MachineOptions) -> Void = { _ in }
    ) throws -> MachineChoice {
        var options = MachineOptions()
        change(&options)
        return try MachineChoice(options, manifest, freeMemory: free, hasKVM: hasKVM)
    }

    @Test func theControllerIsThatOfTheDiskOrOneThatEverySystemKnows() throws {
        #expect(try choice(manifest(transport: "nvme")).bus == .nvme)
        #expect(try choice(manifest(transport: "virtio")).bus == .virtio)
        #expect(try choice(manifest(transport: "usb")).bus == .sata)
        #expect(try choice(manifest(transport: "usb", sector: 4096)).bus == .nvme)
        #expect(try choice(manifest()) { $0.diskBus = "scsi" }.bus == .scsi)
        #expect(throws: JobFailure.self) { try choice(manifest(sector: 4096)) { $0.diskBus = "sata" } }
        #expect(throws: JobFailure.self) { try choice(manifest()) { $0.diskBus = "floppy" } }
    }

    @Test func theFirmwareIsTheOneThatFindsALoader() throws {
        let loader = ["\\EFI\\debian\\grubx64.efi"]
        #expect(try !choice(manifest(firmware: "uefi")).isUEFI)
        #expect(try choice(manifest(code: nil, loaders: loader)).isUEFI)
        #expect(try choice(manifest(firmware: "uefi", loaders: loader)).isUEFI)
        #expect(try !choice(manifest(firmware: "bios", loaders: loader)).isUEFI)
        // The firmware of a machine with the disk in a file says nothing about the disk.
        #expect(try !choice(manifest(transport: "file", firmware: "uefi", loaders: loader)).isUEFI)
        #expect(try choice(manifest()) { $0.firmware = "uefi" }.isUEFI)
    }

    @Test func memoryStaysBelowHalfOfWhatIsFree() throws {
        #expect(try choice(manifest()).memoryByteCount == 2 << 30)
        #expect(try choice(manifest(), free: 2 << 30).memoryByteCount == 1 << 30)
        #expect(try choice(manifest(), free: 1 << 20).memoryByteCount == 256 << 20)
        #expect(try choice(manifest(), free: 1 << 20) { $0.memoryByteCount = 8 << 30 }.memoryByteCount == 8 << 30)
        #expect(throws: JobFailure.self) { try choice(manifest()) { $0.memoryByteCount = 1 } }
    }

    @Test func KVMClockAndArchitecture() throws {
        #expect(try choice(manifest(), hasKVM: true).usesKVM)
        #expect(try !choice(manifest(), hasKVM: true) { $0.usesKVM = false }.usesKVM)
        #expect(try choice(manifest(filesystem: .ntfs)).clock == .localtime)
        #expect(try choice(manifest()).clock == .utc)
        #expect(throws: JobFailure.self) { try choice(manifest(architecture: "aarch64")) }
        #expect(MachineChoice.serial(manifest()) == "SN12")
    }

    @Test func bootEntriesComeFromTheCapturedMachineInTheirOrder() {
        var captured = manifest(loaders: ["\\EFI\\debian\\shimx64.efi"])
        captured.machine.bootOrder = "0a000100ff00"
        captured.machine.bootEntries = ["Boot0001": "0102", "Boot000A": "03", "Boot0009": "04", "Boot00FF": "not hex"]
        let entries = MachineFirmware.bootEntries(captured)
        #expect(entries.map(\.name) == ["Boot000A", "Boot0001", "BootOrder"])
        #expect(entries.last?.value == [0x0A, 0, 1, 0])
    }

    @Test func aLoaderThatNoFirmwareFindsGetsAnEntry() throws {
        let entries = MachineFirmware.bootEntries(
            manifest(loaders: ["\\EFI\\debian\\grubx64.efi", "\\EFI\\debian\\shimx64.efi"]))
        #expect(entries.map(\.name) == ["Boot0001", "BootOrder"])
        let option = try #require(entries.first?.value)
        // Active; a path of 42 bytes for the partition, and the file as UCS-2.
        #expect(Array(option[0..<4]) == [1, 0, 0, 0])
        let shim = "\\EFI\\debian\\shimx64.efi".utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
        #expect(option.firstRange(of: shim) != nil)
        #expect(
            MachineFirmware.bootEntries(manifest(loaders: ["\\EFI\\BOOT\\BOOTX64.EFI", "\\EFI\\debian\\shimx64.efi"]))
                .isEmpty)
    }

    @Test func displays() {
        #expect(VirtualMachineOperation.display("none", "/run/p") == .none)
        #expect(VirtualMachineOperation.display("vnc:7", "/run/p") == .vnc(7))
        #expect(VirtualMachineOperation.display("vnc", "/run/p") == .vncSocket("/run/p/vnc"))
    }

    @Test func overlaysAreKnownByTheirRecord() throws {
        let scratch = try ScratchFolder()
        let overlay = scratch.path.appending("trial.qcow2")
        let record = OverlayRecord.path(of: overlay)
        #expect(record.string.hasSuffix("trial.qcow2.reforge.json"))
        #expect(try OverlayRecord.find(overlay) == nil)
        try write([0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3], overlay)
        #expect(try OverlayRecord.find(overlay) == nil)
        let text = #"{"schema":1,"base":"/repo@abcd","imageID":"abcd","imageUUID":"u","byteCount":512}"#
        try write(Array(text.utf8), record)
        #expect(try OverlayRecord.find(overlay)?.base == "/repo@abcd")
        #expect(try OverlayRecord.find(overlay)?.need(of: overlay).contains("forget and prune") == true)
        try write(Array(text.replacing("/repo@abcd", with: "/disk.img.zst").utf8), record)
        #expect(try OverlayRecord.find(overlay)?.need(of: overlay).contains("forget") == false)
        for hostile in [
            "", "{}", "[1]", text.replacing("\"schema\":1", with: "\"schema\":2"), text.replacing("512", with: "-1"),
        ] {
            try write(Array(hostile.utf8), record)
            #expect(throws: JobFailure.self) { try OverlayRecord.find(overlay) }
        }
        // An overlay whose data is in a file that it names: QEMU would open any file as the guest's disk.
        try write(Array(text.utf8), record)
        var head: [UInt8] = [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3] + [UInt8](repeating: 0, count: 96)
        try write(head, overlay)
        #expect(try OverlayRecord.find(overlay) != nil)
        head[79] = 4
        try write(head, overlay)
        #expect(throws: JobFailure.self) { try OverlayRecord.find(overlay) }
        // A record beside something else makes no overlay of it.
        try write(Array(text.utf8), record)
        try write(Array("raw disk".utf8), overlay)
        #expect(try OverlayRecord.find(overlay) == nil)
    }

    private func write(_ bytes: [UInt8], _ path: FilePath) throws {
        let file = try FileDescriptor.open(
            path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        try file.closeAfter { _ = try file.writeAll(bytes) }
    }
}
