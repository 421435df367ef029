// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

extension MachineRecord {
    /// The machine that runs this.
    package static func current() -> MachineRecord {
        let dmi = FilePath("/sys/class/dmi/id")
        func text(_ name: String) -> String? {
            let text = Files.text(dmi.appending(name))?.trimmed ?? ""
            return text.isEmpty ? nil : DoctorText.shown(text)
        }
        let directory = DiskDirectory()
        return MachineRecord(
            firmware: .current, secureBoot: secureBoot(), architecture: architecture,
            vendor: text("sys_vendor"), product: text("product_name"), board: text("board_name"),
            firmwareVersion: text("bios_version"), controllers: directory.storageControllers(),
            disks: directory.diskNames().sorted().map { name in
                let folder = FilePath("/sys/block/\(name)")
                let identity = directory.identity(path: FilePath("/dev/\(name)"), kernelName: name, diskSequence: nil)
                return Disk(
                    name: name, model: identity.model.map { DoctorText.shown($0) }, transport: identity.transport,
                    byteCount: directory.byteCount(of: name) ?? 0,
                    sectorSize: Files.text(folder.appending("queue/logical_block_size")).flatMap { Int($0) } ?? 512,
                    devices: directory.devices(behind: name))
            })
    }

    /// The variable SecureBoot (UEFI 2.10 §3.3): four bytes of attributes, then 1 if signatures are enforced.
    private static func secureBoot() -> Bool? {
        FirmwareEntries.mountVariables()
        let name = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        guard let bytes = try? Files.read(FilePath("/sys/firmware/efi/efivars/\(name)"), limit: 16), bytes.count > 4
        else { return nil }
        return bytes[4] == 1
    }

    private static var architecture: String {
        #if arch(x86_64)
        "x86_64"
        #elseif arch(arm64)
        "aarch64"
        #else
        "unknown"
        #endif
    }
}

extension BootRepairOptions {
    /// For the machine that runs this: in the recovery environment, with its hardware; on a workstation, the disk may
    /// be for any machine.
    package static func here(touchNVRAM: Bool = true, capturedDiskName: String? = nil) -> BootRepairOptions {
        BootRepairOptions(
            touchNVRAM: touchNVRAM, capturedDiskName: capturedDiskName,
            machine: SystemFacts.isRecoveryEnvironment ? .current() : nil, isHere: true)
    }
}
